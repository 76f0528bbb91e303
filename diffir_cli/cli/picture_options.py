"""What is done with a picture, as options of `restore` and `batch`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffir_cli.options import AlphaMode

if TYPE_CHECKING:
    from diffir_cli.imaging.source import PictureOptions

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Output file: .png, .jpg, .webp, .tif, .avif, .jxl or .bmp. - for stdout. Default: "
        "beside the input, as photo_realsr_x4.jpg.",
        show_default=False,
    ),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        metavar="FILE",
        help="Mask for inpainting: same size as the image, white = fill.",
        show_default=False,
    ),
]
MaskInvert = Annotated[
    bool, typer.Option("--mask-invert", help="Fill the black parts of the mask instead.")
]
MaskDilate = Annotated[
    int, typer.Option("--mask-dilate", min=0, max=1000, help="Enlarge the masked area by N pixels.")
]
OutScale = Annotated[
    float | None,
    typer.Option(
        "--outscale",
        min=0.01,
        max=64,
        help="Final size as a factor of the input (Lanczos resize after the network).",
        show_default=False,
    ),
]
ResultSize = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="WxH",
        help="Fit the result into this size (Lanczos after the network): 3840x2160, 3840x, x2160.",
        show_default=False,
    ),
]
LongSide = Annotated[
    int | None,
    typer.Option(
        "--long-side",
        min=1,
        max=2**20,
        help="Longer side of the result in pixels, by Lanczos after the network.",
        show_default=False,
    ),
]
Strength = Annotated[
    float,
    typer.Option(
        "--strength",
        min=0.0,
        max=1.0,
        help="Share of the network in the result; the rest is the resized input.",
    ),
]
Compare = Annotated[
    Path | None,
    typer.Option(
        "--compare",
        metavar="FILE",
        help="Also write the enlarged input and the result side by side.",
        show_default=False,
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        help="Reject images with more pixels. Default: 178,956,970.",
        show_default=False,
    ),
]
AllowTruncated = Annotated[
    bool,
    typer.Option("--allow-truncated", help="Accept truncated files and restore what is there."),
]
MaskFromAlpha = Annotated[
    bool, typer.Option("--mask-from-alpha", help="Fill the transparent parts of the image itself.")
]
Alpha = Annotated[
    AlphaMode,
    typer.Option(
        "--alpha", help="Transparency: resize it, restore it with the network, or drop it."
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        "--background",
        metavar="COLOUR",
        help="Colour behind transparent parts, such as white or '#e0e0e0'.",
        show_default=False,
    ),
]
FormatName = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        help="Output format: png, jpg, webp, tif, avif, jxl or bmp. Default: from the output's "
        "extension; in batch, the format of each input.",
        show_default=False,
    ),
]
Quality = Annotated[
    int | None,
    typer.Option(
        "--quality",
        min=1,
        max=100,
        help="Quality of JPEG, WebP, AVIF and JPEG XL. Default: 95.",
        show_default=False,
    ),
]
Lossless = Annotated[bool, typer.Option("--lossless", help="Lossless WebP or JPEG XL.")]
StripMetadata = Annotated[
    bool,
    typer.Option(
        "--strip-metadata", help="Remove EXIF and XMP, and do not record the weights and seed."
    ),
]


def read_options(
    *,
    background: str | None,
    max_pixels: int | None,
    alpha: AlphaMode,
    size: str | None,
    long_side: int | None,
    **others: Any,
) -> PictureOptions:
    """What is done with each picture, from the options of a command.

    Raises:
        BadParameter: when the background is no colour, or nothing would be in front of it, or the
            size of the result cannot be understood or is given twice.
    """
    from diffir_cli.imaging.read import MAX_PIXELS
    from diffir_cli.imaging.source import PictureOptions

    colour = None
    if background is not None:
        colour = _parse_colour(background)
    filled = others["mask_from_alpha"]
    if background is not None and (alpha is AlphaMode.DROP or filled):
        other = "--mask-from-alpha" if filled else "--alpha drop"
        raise typer.BadParameter(f"--background has no effect with {other}")
    if filled and alpha is not AlphaMode.LANCZOS:
        raise typer.BadParameter("--alpha has no effect with --mask-from-alpha")
    sizes = {"--outscale": others["outscale"], "--size": size, "--long-side": long_side}
    given = [name for name, value in sizes.items() if value]
    if len(given) > 1:
        raise typer.BadParameter(f"give {given[0]} or {given[1]}, not both")
    return PictureOptions(
        background=colour,
        max_pixels=max_pixels or MAX_PIXELS,
        alpha=alpha,
        size=_parse_result_size(size) if size else (0, 0),
        long_side=long_side or 0,
        **others,
    )


def _parse_result_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{0,7})[x×](\d{0,7})", text.strip().lower())
    if match is None or not any(int(side or 0) for side in match.groups()):
        raise typer.BadParameter(f"--size takes 3840x2160, 3840x or x2160, not {text!r:.40}")
    width, height = (int(side or 0) for side in match.groups())
    return width, height


def _parse_colour(text: str) -> tuple[int, int, int]:
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise typer.BadParameter(
            f"--background must be a colour such as white or '#e0e0e0', not {text!r}"
        ) from None
    return red, green, blue
