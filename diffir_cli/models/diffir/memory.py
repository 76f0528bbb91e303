"""What the networks of DiffIR need of memory, as measured."""

from __future__ import annotations

from diffir_cli.models.diffir.config import ModelConfig, Tail
from diffir_cli.options import Engine

_PLAIN_MAPS = {Tail.CONV: 42, Tail.SHUFFLE_ONCE: 42, Tail.SHUFFLE_TWO: 42, Tail.SHUFFLE: 100}
"""Feature maps of `dim` channels that are alive in the plain modules at the worst moment, as
measured on a CPU in fp32: 28 to 41 with the small tails, 85 to 99 with the one whose last maps have
16 times the pixels."""

_PROGRAM_MAPS = {Tail.CONV: 24, Tail.SHUFFLE_ONCE: 34, Tail.SHUFFLE_TWO: 25, Tail.SHUFFLE: 72}
"""The same in a program of OpenVINO, in its number format."""

_PROGRAM_BASE = 2**24
"""Bytes that a program takes in any case, beside its weights."""

_STREAMED_MAPS = 3.5
"""Feature maps of `dim` channels that are alive between strips at the worst moment: the skip of
level 1, the twice as wide map that it is copied into, and level 2 half as large as one."""

_STRIP_MAPS = 64
"""Numbers that the windows and strips of a chain of stages hold, for each number of a strip."""

CONDITION_ELEMENTS = 2**25
"""Numbers of CPEN's widest feature that are worked on at a time where memory does not matter."""

_FEWEST_CONDITION_ELEMENTS = 2**20
_CONDITION_BYTES, _CONDITION_BASE = 11, 2**25
"""Bytes that CPEN takes for each of them, and in any case, as measured: input and output of its
widest layer, and what the library of convolutions keeps."""


def needed_bytes(
    config: ModelConfig,
    width: int,
    height: int,
    engine: Engine = Engine.STREAMING,
    itemsize: int = 4,
    strip: int = 0,
) -> int:
    """What restoring an image takes, beside weights and pictures; an upper estimate for plain.

    Args:
        config: The network.
        width: LQ pixels.
        height: LQ pixels.
        engine: How it is executed.
        itemsize: Bytes of a number of the feature maps.
        strip: Numbers of a feature that are worked on at a time.
    """
    wide, high = config.padded(width), config.padded(height)
    feature = wide * high // config.unshuffle**2 * config.dim
    # A gated network mixes two images into a third.
    out = config.out_channels + 3 * config.gated
    images = 4 * wide * high * (config.in_channels + config.read_channels + out * config.scale**2)
    if engine is Engine.REFERENCE:
        return feature * 4 * _PLAIN_MAPS[config.tail] + images
    if engine is Engine.OPENVINO:
        return feature * itemsize * _PROGRAM_MAPS[config.tail] + _PROGRAM_BASE + images
    # A strip is one row at least, which of a wide image may be more than a strip's numbers.
    row = wide // config.unshuffle * config.dim
    return round(
        itemsize * (_STREAMED_MAPS * feature + _STRIP_MAPS * max(min(strip, feature), row)) + images
    )


def condition_elements(budget: int | None) -> int:
    """How much of its widest feature CPEN may work on at a time: within half of the budget."""
    if budget is None:
        return CONDITION_ELEMENTS
    return min(
        CONDITION_ELEMENTS, max(budget // (2 * _CONDITION_BYTES), _FEWEST_CONDITION_ELEMENTS)
    )


def condition_bytes(config: ModelConfig, width: int, height: int, elements: int) -> int:
    """What CPEN takes for an image, with so many numbers of its widest feature at a time."""
    wide, high = width // config.lq_unshuffle, height // config.lq_unshuffle
    row = wide * config.ipr_dim
    halo = 2 * (2 * config.cpen_blocks + 4)
    rows = min(max(elements // max(row, 1), 1) + halo, high)
    return _CONDITION_BYTES * rows * row + _CONDITION_BASE
