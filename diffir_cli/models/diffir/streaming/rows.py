"""Row streams: what a 3×3 convolution needs to see of an image that passes by strip by strip.

A strip of rows goes in, the rows whose neighbours are all known come out: one row late inside the
image, with the last strip everything. Rows beyond the borders are zeros. Nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

Span = tuple[int, int]
"""First row and the row behind the last."""

SLACK = 3
"""Rows by which a strip may be longer at the end of a chain of streams, each one row late."""


def spans(height: int, strip: int) -> Iterator[Span]:
    """Strips of an image from top to bottom."""
    for first in range(0, height, strip):
        yield first, min(first + strip, height)


class RowWindow:
    """The rows of one stream that are still needed: a strip and two rows above it.

    There is room for several strips, so that those two rows seldom have to be moved.

    Args:
        like: A tensor whose dtype and device the window takes.
        height: Rows of the whole image.
        width: Columns.
        channels: Channels.
        strip: Rows that come at a time, give or take `SLACK`.
        edge: (channels,), what stands in the rows beyond the image; None for zeros.
    """

    def __init__(
        self,
        like: Tensor,
        height: int,
        width: int,
        channels: int,
        strip: int,
        edge: Tensor | None = None,
    ) -> None:
        rows = min(_STRIPS * (strip + SLACK), height) + 3
        self._rows = like.new_empty(rows, width, channels)
        self._edge = like.new_zeros(channels) if edge is None else edge
        self._rows[1] = self._edge
        self._height = height
        self._at = 2

    def slot(self, span: Span) -> Tensor:
        """Where to put the rows of a strip: (rows, width, channels), contiguous."""
        count = span[1] - span[0]
        # One row more, for the edge below the image.
        if self._at + count + (span[1] == self._height) > len(self._rows):
            kept = self._rows[self._at - 2 : self._at]
            self._rows[:2] = kept if self._at >= 4 else kept.clone()
            self._at = 2
        return self._rows[self._at : self._at + count]

    def complete(self, span: Span) -> tuple[Tensor, Span]:
        """The rows that can be convolved once a strip has been put into its slot.

        Returns:
            (1, channels, rows + 2, width) in channels-last layout, to be convolved without padding
            of rows, and the span that comes out. Both are empty for a first strip of one row.
        """
        first, last = span
        begin = self._at - (1 if first == 0 else 2)
        self._at += last - first
        end, out = self._at, (max(first - 1, 0), last - 1)
        if last == self._height:
            self._rows[end] = self._edge
            end, out = end + 1, (out[0], last)
        if out[1] <= out[0]:
            end = begin
        return self._rows[None, begin:end].permute(0, 3, 1, 2), out


_STRIPS = 4
"""Strips that a window has room for."""
