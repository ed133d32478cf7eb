"""Reveals the order in which a product of matrices adds, from its results alone.

The method is that of FPRev, arXiv 2411.00442: among products that are all one unit, one is `M` and one `-M`, so large
that units added to `M` are lost. What is left are the units that meet the sum only after `M` and `-M` have met: all but
those in the smallest subtree that has both.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["Tree", "describe_tree", "mask_rows", "summation_tree"]

Tree = int | tuple["Tree", ...]
"""A product by its place along K, or the sums and products that one addition takes; more than two where a unit does."""


def mask_rows(length: int) -> tuple[list[tuple[int, int]], Tensor]:
    """Every pair of places, and for each a row of terms: `1` at the first, `-1` at the second, `0` for a unit."""
    pairs = [(i, j) for i in range(length) for j in range(i + 1, length)]
    rows = torch.zeros(len(pairs), length)
    first, second = torch.tensor(pairs).T
    rows[torch.arange(len(pairs)), first] = 1.0
    rows[torch.arange(len(pairs)), second] = -1.0
    return pairs, rows


def summation_tree(add: Callable[[Tensor], Tensor], length: int) -> Tree:
    """Find the tree of a sum.

    Args:
        add: takes the rows of `mask_rows`; gives, for each, how many units are left of the sum, [rows].
        length: K.

    Raises:
        ValueError: if what is left is that of no tree, as where order depends on the row.
    """
    pairs, rows = mask_rows(length)
    left = add(rows).tolist()
    size = {pair: length - int(count) for pair, count in zip(pairs, left, strict=True)}

    def together(i: int, j: int) -> int:
        return size[min(i, j), max(i, j)]

    tree = _build(list(range(length)), together)
    seen: dict[tuple[int, int], int] = {}
    _sizes(tree, seen)
    if seen != size:
        raise ValueError("what is left of the sums is that of no tree; is the order the same for every row?")
    return tree


def _build(places: Sequence[int], together: Callable[[int, int], int]) -> Tree:
    """The subtree of some places: what the first of them meets, one after the other."""
    first = places[0]
    tree: Tree = first
    for size in sorted({together(first, other) for other in places[1:]}):
        others = [other for other in places[1:] if together(first, other) == size]
        parts: list[Tree] = [tree]
        while others:
            # Those that meet one another before they meet the first are one operand; there may be several.
            head = others[0]
            operand = [head, *(other for other in others[1:] if together(head, other) < size)]
            parts.append(_build(operand, together))
            others = [other for other in others if other not in operand]
        tree = tuple(parts)
    return tree


def _sizes(tree: Tree, seen: dict[tuple[int, int], int]) -> list[int]:
    """The leaves of a tree; for every pair of them, how many leaves the smallest subtree with both has."""
    if isinstance(tree, int):
        return [tree]
    parts = [_sizes(part, seen) for part in tree]
    leaves = [leaf for part in parts for leaf in part]
    for at, part in enumerate(parts):
        for later in parts[at + 1 :]:
            seen.update({(min(i, j), max(i, j)): len(leaves) for i in part for j in later})
    return leaves


def describe_tree(tree: Tree) -> str:
    """Say in words what order a tree is: one of the usual ones, or its brackets."""
    leaves = _sizes(tree, {})
    length = len(leaves)
    if isinstance(tree, int) or len(tree) == length:
        return f"all {length} at once"
    usual = {
        "one after the other": _chain(range(length)),
        "one after the other, from the last": _sorted(_chain(range(length - 1, -1, -1))),
        "neighbours, level by level": _halves(0, length),
    }
    for group in range(2, length):
        if length % group == 0:
            usual[f"groups of {group} at once, one group after the other"] = _grouped(length, group)
    found = next((words for words, one in usual.items() if one == tree), "")
    lanes = next((lanes for lanes in range(2, length) if _is_in_lanes(tree, lanes, length)), None)
    in_lanes = "" if lanes is None else f"{lanes} lanes, each one after the other, then the lanes"
    return found or in_lanes or str(tree).replace(" ", "")


def _chain(places: Sequence[int]) -> Tree:
    tree: Tree = places[0]
    for place in places[1:]:
        tree = (tree, place)
    return tree


def _sorted(tree: Tree) -> Tree:
    """The same sums with the operands of each in the order of their first places, as `summation_tree` gives them."""
    return tree if isinstance(tree, int) else tuple(sorted(map(_sorted, tree), key=_first))


def _first(tree: Tree) -> int:
    return min(_sizes(tree, {}))


def _halves(start: int, count: int) -> Tree:
    if count == 1:
        return start
    half = 1 << ((count - 1).bit_length() - 1)
    return (_halves(start, half), _halves(start + half, count - half))


def _grouped(length: int, group: int) -> Tree:
    tree: Tree = tuple(range(group))
    for start in range(group, length, group):
        assert isinstance(tree, tuple)
        tree = (tree, *range(start, start + group))
    return tree


def _is_in_lanes(tree: Tree, lanes: int, length: int) -> bool:
    """Whether the places with one rest are added one after the other before they meet any other."""
    seen: dict[tuple[int, int], int] = {}
    _sizes(tree, seen)
    wanted = {
        (i, j): (max(i, j) // lanes) + 1 for i in range(length) for j in range(i + 1, length) if i % lanes == j % lanes
    }
    return length % lanes == 0 and all(seen[pair] == size for pair, size in wanted.items())
