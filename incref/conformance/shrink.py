"""Makes a failing case small: as few elements as show it, all others zero."""

from dataclasses import replace

import torch
from torch import Tensor

from incref.conformance.answers import Answers
from incref.conformance.case import Arguments, Case
from incref.conformance.implementation import Candidate
from incref.conformance.judge import bits_of
from incref.conformance.result import Result, Status
from incref.conformance.run import run_case

__all__ = ["Shrunk", "shrink"]

_MOST_TRIES = 200
_SUFFIX = "/shrunk"
_SHRUNK = ("x", "codes", "packed", "w")


class Shrunk:
    """A failing case and what became of it."""

    def __init__(self, case: Case, result: Result) -> None:
        """Keep both."""
        self.case = case
        self.result = result


def shrink(candidate: Candidate, case: Case, answers: Answers) -> Shrunk:
    """Set elements to zero, one half of them after the other, as long as the case still fails.

    Args:
        candidate: the implementation.
        case: a case that fails.
        answers: who says what is right; answers to the smaller cases are not kept.
    """
    best = Shrunk(case, run_case(candidate, case, answers))
    if best.result.status is not Status.FAIL:
        return best
    tries = _MOST_TRIES
    for name in _SHRUNK:
        if not isinstance(case.arguments.get(name), Tensor):
            continue
        size = _nonzero(best.case, name).numel()
        while size > 1 and tries > 0:
            size = -(-size // 2)
            places = _nonzero(best.case, name)
            for part in places.split(size):
                tries -= 1
                smaller = _without(best.case, name, part)
                result = run_case(candidate, smaller, Answers(answers.judge))
                if result.status is Status.FAIL:
                    best = Shrunk(smaller, result)
                if tries <= 0:
                    break
            if size == 1:
                break
    return best


def _nonzero(case: Case, name: str) -> Tensor:
    """Where the elements are something else than +0."""
    x = case.arguments[name]
    assert isinstance(x, Tensor)
    return (bits_of(x.reshape(-1)) != 0).nonzero().flatten()


def _without(case: Case, name: str, places: Tensor) -> Case:
    arguments = dict(case.arguments)
    x = arguments[name]
    assert isinstance(x, Tensor)
    flat = x.clone().reshape(-1)
    flat[places] = torch.zeros((), dtype=flat.dtype)
    arguments[name] = flat.view(x.shape)

    def draw(arguments: Arguments = arguments) -> Arguments:
        return arguments

    return replace(case, name=f"{case.name.removesuffix(_SUFFIX)}{_SUFFIX}", draw=draw)
