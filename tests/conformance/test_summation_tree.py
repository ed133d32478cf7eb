"""The order of a sum is found from its results."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from incref.conformance.summation_tree import Tree, describe_tree, summation_tree

_LARGE = 2.0**40


def added(tree: Tree, terms: Tensor) -> Tensor:
    """Add float32 columns as a tree says; more than two of them at once exactly, rounded once."""
    if isinstance(tree, int):
        return terms[:, tree]
    parts = torch.stack([added(part, terms) for part in tree], 1)
    if len(tree) == 2:
        return parts[:, 0] + parts[:, 1]
    # As a unit that aligns its terms: units below the large ones are cut off.
    is_large = (parts.abs() >= _LARGE / 2).any(1)
    kept = torch.where(is_large.unsqueeze(1), (parts / _LARGE).round() * _LARGE, parts)
    return kept.double().sum(1).float()


def left(tree: Tree) -> Callable[[Tensor], Tensor]:
    def add(rows: Tensor) -> Tensor:
        return added(tree, torch.where(rows == 0, 1.0, rows * _LARGE))

    return add


def chain(places: list[int]) -> Tree:
    tree: Tree = places[0]
    for place in places[1:]:
        tree = (tree, place)
    return tree


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (chain(list(range(8))), "one after the other"),
        (((0, 1), (2, 3)), "neighbours, level by level"),
        ((((0, 1), (2, 3)), 4), "neighbours, level by level"),
        (chain([3, 2, 1, 0]), "one after the other, from the last"),
        ((0, 1, 2, 3), "all 4 at once"),
        (((0, 1, 2, 3), 4, 5, 6, 7), "groups of 4 at once, one group after the other"),
        ((chain([0, 2, 4, 6]), chain([1, 3, 5, 7])), "2 lanes, each one after the other, then the lanes"),
        ((0, (1, (2, (3, 4)))), "one after the other, from the last"),
        (((0, 3), (1, 2)), "((0,3),(1,2))"),
    ],
)
def test_trees_are_found(tree: Tree, words: str) -> None:
    length = max(leaf for leaf in range(9) if str(leaf) in str(tree)) + 1
    assert describe_tree(summation_tree(left(tree), length)) == words


def test_what_is_no_tree_is_refused() -> None:
    def add(rows: Tensor) -> Tensor:
        return torch.arange(rows.shape[0]) % 3

    with pytest.raises(ValueError, match="is that of no tree"):
        summation_tree(add, 5)
