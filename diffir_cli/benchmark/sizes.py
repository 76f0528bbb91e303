"""Sizes of pictures: up to which, and how a sweep grows; light, for the command line."""

from __future__ import annotations

Size = tuple[int, int]
"""Width and height in LQ pixels."""

LARGEST = 16384
"""Pixels of the longest side that is counted or measured."""


def sweep_sizes(first: int, last: int) -> list[Size]:
    """Squares whose side doubles, from the first to the last, which is one of them."""
    sides = [first]
    while sides[-1] * 2 <= last:
        sides.append(sides[-1] * 2)
    if sides[-1] != last:
        sides.append(last)
    return [(side, side) for side in sides]
