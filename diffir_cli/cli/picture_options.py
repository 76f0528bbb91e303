"""What is done with a picture, as options of `restore` and `batch`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffir_cli.cli import panels
from diffir_cli.cli.conflicts import exclude_with, is_given, refuse
from diffir_cli.errors import UsageError
from diffir_cli.options import AlphaMode, ColorFix, Task

if TYPE_CHECKING:
    from diffir_cli.imaging.source import PictureOptions

Output = Annotated[
    Path | None,
    panels.input_output(
        "--output",
        "-o",
        metavar="FILE",
        help="Output file: .png, .jpg, .webp, .tif, .avif, .jxl, .heic or .bmp. - for stdout. "
        "Default: beside the input, as photo_realsr_x4.jpg.",
    ),
]
Mask = Annotated[
    Path | None,
    panels.inpainting(
        "--mask", metavar="FILE", help="Mask for inpainting: same size as the image, white = fill."
    ),
]
MaskInvert = Annotated[
    bool, panels.inpainting("--mask-invert", help="Fill the black parts of the mask instead.")
]
MaskDilate = Annotated[
    int,
    panels.inpainting(
        "--mask-dilate", min=0, max=1000, metavar="N", help="Enlarge the masked area by N pixels."
    ),
]
OutScale = Annotated[
    float | None,
    panels.result(
        "--outscale",
        min=0.01,
        max=64,
        metavar="N",
        help="Final size as a factor of the input (Lanczos resize after the network).",
    ),
]
ResultSize = Annotated[
    str | None,
    panels.result(
        "--size",
        metavar="WxH",
        help="Fit the result into this size (Lanczos after the network): 3840x2160, 3840x, x2160.",
    ),
]
LongSide = Annotated[
    int | None,
    panels.result(
        "--long-side",
        min=1,
        max=2**20,
        metavar="N",
        help="Longer side of the result in pixels, by Lanczos after the network.",
    ),
]
Strength = Annotated[
    float,
    panels.result(
        "--strength",
        min=0.0,
        max=1.0,
        metavar="N",
        help="Share of the network in the result; the rest is the resized input.",
    ),
]
Compare = Annotated[
    Path | None,
    panels.input_output(
        "--compare",
        metavar="FILE",
        help="Also write the enlarged input and the result side by side.",
    ),
]
MaxPixels = Annotated[
    int | None,
    panels.input_output(
        "--max-pixels",
        min=1,
        metavar="N",
        help="Reject images with more pixels. Default: 178,956,970.",
    ),
]
AllowTruncated = Annotated[
    bool,
    panels.input_output(
        "--allow-truncated", help="Accept truncated files and restore what is there."
    ),
]
MaskFromAlpha = Annotated[
    bool,
    panels.inpainting("--mask-from-alpha", help="Fill the transparent parts of the image itself."),
]
Alpha = Annotated[
    AlphaMode,
    panels.result(
        "--alpha", help="Transparency: resize it, restore it with the network, or drop it."
    ),
]
Background = Annotated[
    str | None,
    panels.result(
        "--background",
        metavar="COLOUR",
        help="Colour behind transparent parts, such as white or '#e0e0e0'.",
    ),
]
FormatName = Annotated[
    str | None,
    panels.result(
        "--format",
        "-f",
        metavar="FORMAT",
        help="Output format: png, jpg, webp, tif, avif, jxl, heic or bmp. Default: from the "
        "output's extension; in batch, the format of each input.",
    ),
]
Quality = Annotated[
    int | None,
    panels.result(
        "--quality",
        min=1,
        max=100,
        metavar="N",
        help="Quality of JPEG, WebP, AVIF and JPEG XL. Default: 95.",
    ),
]
Lossless = Annotated[bool, panels.result("--lossless", help="Lossless WebP or JPEG XL.")]
StripMetadata = Annotated[
    bool,
    panels.result(
        "--strip-metadata",
        help="Remove EXIF, XMP, captions and texts, and do not record the weights and seed.",
    ),
]


def read_options(context: typer.Context, task: Task) -> PictureOptions:
    """What is done with each picture, from the options of a command.

    Raises:
        UsageError: when an option cannot be understood, contradicts another, or is none for the
            task.
    """
    from diffir_cli.imaging.opening import MAX_PIXELS
    from diffir_cli.imaging.source import PictureOptions

    _check_mask(context, task)
    given = context.params
    if given["alpha"] is AlphaMode.DROP:
        exclude_with(context, "--alpha drop", "background")
    background, size = given["background"], given["size"]
    return PictureOptions(
        background=None if background is None else _parse_colour(background),
        max_pixels=given["max_pixels"] or MAX_PIXELS,
        size=_parse_result_size(size) if size else (0, 0),
        long_side=given["long_side"] or 0,
        **{name: given[name] for name in _AS_GIVEN},
    )


_AS_GIVEN = (
    *("seed", "alpha", "outscale", "strength", "mask_invert", "mask_dilate", "mask_from_alpha"),
    *("allow_truncated", "strip_metadata"),
)
"""Options whose values are those of the fields of `PictureOptions` of the same name."""


def _check_mask(context: typer.Context, task: Task) -> None:
    """Refuse masks for a task that fills nothing, and inpainting without one."""
    masks = ("mask", "mask_from_alpha")
    if task is not Task.INPAINT:
        for name in masks:
            if is_given(context, name):
                refuse(context, name, f"--task {task.value}", "add --task inpaint")
    elif not any(is_given(context, name) for name in masks):
        raise UsageError(
            "--task inpaint needs --mask or --mask-from-alpha", "add --mask FILE, white = fill"
        )
    else:
        # Neither transparency nor the colours of a hole go through a network that fills holes.
        if context.params["alpha"] is AlphaMode.NETWORK:
            exclude_with(context, "--task inpaint", "alpha")
        if context.params["color_fix"] not in (ColorFix.AUTO, ColorFix.NONE):
            exclude_with(context, "--task inpaint", "color_fix")


def _parse_result_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{0,7})[x×](\d{0,7})", text.strip().lower())
    if match is None or not any(int(side or 0) for side in match.groups()):
        raise UsageError(
            f"--size must be a width, a height, or both, not {text!r:.40}",
            "write 3840x2160, 3840x or x2160",
        )
    width, height = (int(side or 0) for side in match.groups())
    return width, height


def _parse_colour(text: str) -> tuple[int, int, int]:
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
        # Pillow takes larger levels than there are.
        if max(red, green, blue) > 255:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--background must be a colour, not {text!r:.40}", "write white, or '#e0e0e0'"
        ) from None
    return red, green, blue
