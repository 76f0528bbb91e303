"""How the pixels of a TIFF lie in its file, as its tags say."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import TiffImagePlugin

from diffir_cli.imaging.tiff_directory import TiffDirectory

WHITE_IS_ZERO, BLACK_IS_ZERO, _RGB, CMYK = 0, 1, 2, 5
UNCOMPRESSED = 1
_PACKED = (5, 8, 32773, 32946, 34925, 50000)
"""Compressions that keep bytes as they are: LZW, Deflate, PackBits, LZMA, Zstandard."""

_PREDICTOR, _SAMPLE_FORMAT = 317, 339
_UNSIGNED, _SIGNED, FLOAT, _UNDEFINED = 1, 2, 3, 4
_ASSOCIATED, _UNASSOCIATED = 1, 2
DIFFERENCES, FLOAT_DIFFERENCES = 2, 3
_MOST_CHANNELS = 16
_LARGEST_TILE = 2**26
"""Pixels: a small picture in a huge tile is made to take memory."""

_COMPRESSIONS = {7: "JPEG", 34712: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL"}
_KINDS = {3: "a palette", 4: "a mask", CMYK: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "ICCLab"}


@dataclass(frozen=True)
class Layout:
    """How the samples of a picture lie in its file."""

    size: tuple[int, int]
    bits: int
    """Of a sample."""
    samples: int
    """Of a pixel, colours first."""
    form: int
    """SampleFormat: unsigned, signed or floating point."""
    kind: int
    """PhotometricInterpretation."""
    planes: int
    """Parts of the file in which the samples of a pixel lie: 1, or one for each."""
    compression: int
    predictor: int
    alpha: int | None
    """Which sample is alpha, if any."""
    associated: bool
    """Whether colours are multiplied by alpha."""
    block: tuple[int, int]
    """(width, height) of a tile or strip."""
    tiled: bool
    little: bool
    """Whether the lower byte of a number comes first."""

    @property
    def colours(self) -> int:
        """Samples of a pixel that are colours."""
        return {_RGB: 3, CMYK: 4}.get(self.kind, 1)

    @property
    def spare(self) -> int:
        """Samples of a pixel that are neither colours nor alpha."""
        return self.samples - self.colours - (self.alpha is not None)

    @property
    def deep(self) -> bool:
        """Whether it becomes a picture of 16 bits a channel."""
        return self.bits > 8 and self.kind != CMYK

    @property
    def reduced(self) -> bool:
        """Whether its levels are finer than those of the picture that it becomes."""
        return self.form == FLOAT or (self.kind == CMYK and self.bits > 8)

    def refusal(self) -> str:
        """What about it cannot be read; empty where all can."""
        if self.form == _SIGNED:
            return f"signed integers of {self.bits} bits"
        if self.form == FLOAT and self.bits not in (16, 32, 64):
            return f"floating-point numbers of {self.bits} bits"
        if self.form not in (_UNSIGNED, FLOAT, _UNDEFINED):
            return "complex numbers"
        if self.bits > 16 and self.form != FLOAT:
            return f"integers of {self.bits} bits per channel"
        if self.kind == CMYK and (self.form == FLOAT or self.bits not in (8, 16)):
            return f"CMYK of {self.bits} bits per channel"
        if self.tiled and self.block[0] * self.block[1] > _LARGEST_TILE:
            return f"tiles of {self.block[0]}×{self.block[1]} pixels"
        if self.samples > _MOST_CHANNELS:
            return f"{self.samples} channels"
        whole = self.bits in (8, 16, 32, 64)
        predictable = {1: True, DIFFERENCES: whole, FLOAT_DIFFERENCES: self.form == FLOAT}
        if not predictable.get(self.predictor):
            return f"predictor {self.predictor} with {self.bits} bits per channel"
        return ""


def layout_of(directory: TiffDirectory) -> Layout | None:
    """The layout of a TIFF's first picture; None where Pillow must read it, or cannot either."""
    tags = directory.tags
    kind = directory.value(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, -1)
    compression = directory.value(TiffImagePlugin.COMPRESSION, UNCOMPRESSED)
    depths = set(directory.values(TiffImagePlugin.BITSPERSAMPLE)) or {1}
    samples = directory.value(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    bits = max(depths)
    form = directory.value(_SAMPLE_FORMAT, _UNSIGNED)
    known = kind in (WHITE_IS_ZERO, BLACK_IS_ZERO, _RGB) or (kind == CMYK and bits > 8)
    if not known or compression not in (UNCOMPRESSED, *_PACKED) or len(depths) > 1 or bits < 8:
        return None
    # Bits that are numbered from the lowest are for fax machines.
    if directory.value(TiffImagePlugin.FILLORDER, 1) != 1:
        return None
    width, height = directory.size
    tiled = TiffImagePlugin.TILEWIDTH in tags
    rows = directory.value(TiffImagePlugin.ROWSPERSTRIP, height)
    block = (width, max(1, min(rows, height)))
    if tiled:
        block = directory.value(322, 0), directory.value(323, 0)
    colours = {_RGB: 3, CMYK: 4}.get(kind, 1)
    if min(width, height, *block) < 1 or samples < colours:
        return None
    alpha, associated = _alpha(directory, samples, colours)
    planes = samples if directory.value(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2 else 1
    return Layout(
        (width, height),
        bits,
        samples,
        form,
        kind,
        planes,
        compression,
        directory.value(_PREDICTOR, 1) if compression in (5, 8, 32946, 34925, 50000) else 1,
        alpha,
        associated,
        block,
        tiled,
        tags.prefix == b"II",
    )


def describe(directory: TiffDirectory) -> str:
    """What is unusual about a TIFF, for a message that it cannot be read."""
    bits = directory.values(TiffImagePlugin.BITSPERSAMPLE) or (1,)
    kind = directory.value(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, -1)
    colours = _KINDS.get(kind, "" if kind in (0, 1, 2) else f"colours of kind {kind}")
    compression = directory.value(TiffImagePlugin.COMPRESSION, UNCOMPRESSED)
    packed = compression in (UNCOMPRESSED, *_PACKED)
    name = "" if packed else f"compression {_COMPRESSIONS.get(compression, compression)}"
    parts = f"{len(bits)} channels of {'/'.join(map(str, sorted(set(bits))))} bits", colours, name
    return ", ".join(part for part in parts if part)


def _alpha(directory: TiffDirectory, samples: int, colours: int) -> tuple[int | None, bool]:
    """Which sample is alpha, and whether colours are multiplied by it."""
    extra = directory.values(TiffImagePlugin.EXTRASAMPLES)
    for place, meaning in enumerate(extra[: samples - colours]):
        if meaning in (_ASSOCIATED, _UNASSOCIATED):
            return colours + place, meaning == _ASSOCIATED
    # Many programs do not say that the fourth channel is alpha.
    undeclared = TiffImagePlugin.EXTRASAMPLES not in directory.tags and (samples, colours) == (4, 3)
    return (3 if undeclared else None), False
