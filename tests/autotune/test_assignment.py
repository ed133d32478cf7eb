import itertools
import random
from fractions import Fraction

import pytest

from incref.autotune.assignment import Option, assignments


def option(bits: int, loss: float) -> Option:
    return Option(config=None, bits=bits, loss=loss)


def test_the_layer_that_loses_least_for_a_bit_goes_first() -> None:
    options = {
        "robust": [option(8, 0.0), option(4, 0.25)],
        "fragile": [option(8, 0.0), option(4, 4.0)],
        # Losing the same for more saved is cheaper.
        "large": [option(80, 0.0), option(40, 0.25)],
    }
    path = list(assignments(options))
    assert [(one.bits, one.loss) for one in path] == [
        (96, 0),
        (56, Fraction(1, 4)),
        (52, Fraction(1, 2)),
        (48, Fraction(9, 2)),
    ]
    assert [[one.chosen[name].bits for name in options] for one in path] == [
        [8, 8, 80],
        [8, 8, 40],
        [4, 8, 40],
        [4, 4, 40],
    ]


def test_of_equal_layers_the_earlier_goes_first() -> None:
    options = {name: [option(8, 0.0), option(4, 1.0)] for name in ("b", "a")}
    assert [one.chosen["b"].bits for one in assignments(options)] == [8, 4, 4]


def test_options_that_others_beat_are_never_chosen() -> None:
    options = [option(8, 1.0), option(6, 1.0), option(7, 3.0), option(5, 4.0), option(4, 5.0), option(4, 6.0)]
    assert [one.chosen["fc"] for one in assignments({"fc": options})] == [option(6, 1.0), option(4, 5.0)]


@pytest.mark.parametrize("seed", range(20))
def test_no_assignment_of_its_size_or_a_smaller_one_loses_less(seed: int) -> None:
    draw = random.Random(seed)
    options = {
        name: [option(draw.randint(1, 12), draw.randint(0, 16) / 4) for _ in range(draw.randint(1, 4))]
        for name in "abcd"
    }
    every = [
        (sum(one.bits for one in chosen), sum(Fraction(one.loss) for one in chosen))
        for chosen in itertools.product(*options.values())
    ]
    path = list(assignments(options))
    for one in path:
        assert one.bits == sum(option.bits for option in one.chosen.values())
        assert one.loss == min(loss for bits, loss in every if bits <= one.bits)
    assert path[0].loss == min(loss for _, loss in every)
    assert path[-1].bits == min(bits for bits, _ in every)
    assert [one.bits for one in path] == sorted({one.bits for one in path}, reverse=True)
