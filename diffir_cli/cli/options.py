"""Options that several commands share, each declared once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffir_cli.options import AlphaMode, ColorFix, Engine, MemoryLimits, Precision, Task

if TYPE_CHECKING:
    from diffir_cli.imaging.source import PictureOptions

TaskName = Annotated[
    Task,
    typer.Option(
        "--task",
        case_sensitive=False,
        help="Restoration task. Default: the task of --weights if given by name, else realsr.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        "-w",
        metavar="NAME|FILE",
        help="Weights: a name from the registry or a file. Default: the embedded ones of the task.",
        show_default=False,
    ),
]
Scale = Annotated[
    int | None,
    typer.Option(
        "--scale",
        "-s",
        min=1,
        max=4,
        help="Scale of the network: 1, 2 or 4. For the final size see --outscale.",
        show_default=False,
    ),
]
Registry = Annotated[
    Path | None,
    typer.Option(
        "--registry",
        metavar="FILE",
        envvar="DIFFIR_REGISTRY",
        help="Your own weights registry, in the format of weights.toml.",
        show_default=False,
    ),
]
NoDownload = Annotated[
    bool,
    typer.Option(
        "--no-download", "--offline", help="Never download: use only weights on this machine."
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        metavar="DEVICE",
        envvar="DIFFIR_DEVICE",
        help="Device: auto, cpu, cuda, cuda:N, xpu or mps.",
    ),
]
PrecisionName = Annotated[
    Precision,
    typer.Option(
        "--precision", help="Number format. auto: bf16 where the hardware supports it, else fp32."
    ),
]
EngineName = Annotated[
    Engine,
    typer.Option(
        "--engine",
        help="streaming: in strips, less memory. reference: the plain network. Same result.",
    ),
]
MaxMemory = Annotated[
    str,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="Memory limit, such as 4G. Default: most of the free memory.",
        show_default=False,
    ),
]
Tile = Annotated[
    str,
    typer.Option(
        "--tile",
        "-t",
        metavar="auto|off|N",
        help="Tile size in input pixels. auto: tiles only if the whole image does not fit.",
    ),
]
ColorFixName = Annotated[
    ColorFix,
    typer.Option(
        "--color-fix",
        help="Colours of the result: the input's by wavelet or adain, or none. auto fixes them "
        "for models that shift colours.",
    ),
]
TileOverlap = Annotated[
    int, typer.Option("--tile-overlap", min=0, max=1024, help="Overlap of tiles in input pixels.")
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed", min=0, max=2**63 - 1, help="Random seed. The same seed gives the same result."
    ),
]
Threads = Annotated[
    int | None,
    # Beyond that torch crashes where it cannot start so many.
    typer.Option(
        "--threads",
        min=1,
        max=1024,
        help="Number of CPU threads. Default: all.",
        show_default=False,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print JSON to stdout: one object, or one line per image in batch."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only print errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print details.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
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
ReportFile = Path | None
CsvFile = Annotated[
    ReportFile,
    typer.Option("--csv", metavar="FILE", help="Write the results as CSV.", show_default=False),
]
MarkdownFile = Annotated[
    ReportFile,
    typer.Option(
        "--markdown", metavar="FILE", help="Write the results as Markdown.", show_default=False
    ),
]
HtmlFile = Annotated[
    ReportFile,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Write an HTML page with before/after sliders.",
        show_default=False,
    ),
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
        help="Output format: png, jpg, webp, tif, avif, jxl, heic or bmp. Default: from the "
        "output's extension; in batch, the format of each input.",
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
        "--strip-metadata",
        help="Remove EXIF, XMP, captions and texts, and do not record the weights and seed.",
    ),
]


def picture_options(
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
    from diffir_cli.imaging.opening import MAX_PIXELS
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


def is_given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line, and has not its default."""
    # By name: typer brings a click of its own.
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def check_reports(files: Mapping[str, Path | None], overwrite: bool) -> None:
    """Refuse reports that cannot be written, before anything is measured for them.

    Args:
        files: By the names of their options, without hyphens in front.
        overwrite: Whether they may replace files.

    Raises:
        InputError: when one of them cannot be written.
        BadParameter: when two of them are one file.
    """
    from diffir_cli.util.files import check_new_file

    named = [file for file in files.values() if file]
    for file in named:
        check_new_file(file, overwrite)
    if len({file.resolve() for file in named}) < len(named):
        *first, last = (f"--{name}" for name in files)
        raise typer.BadParameter(f"{', '.join(first)} and {last} must name different files")


def limits_of(max_memory: str, tile: str, tile_overlap: int) -> MemoryLimits:
    """Limits of memory and tiles from the options of a command.

    Raises:
        BadParameter: when one of them cannot be understood.
    """
    return MemoryLimits(parse_size(max_memory), parse_tile(tile, tile_overlap), tile_overlap)


def check_mask_options(mask: object | None, invert: bool, dilate: int, from_alpha: bool) -> None:
    """Refuse options of masks that contradict each other or would have no effect.

    Raises:
        BadParameter: when they do.
    """
    if mask and from_alpha:
        raise typer.BadParameter("give --mask or --mask-from-alpha, not both")
    if invert and not mask:
        raise typer.BadParameter("--mask-invert needs --mask")
    if dilate and not (mask or from_alpha):
        raise typer.BadParameter("--mask-dilate needs --mask or --mask-from-alpha")


def _parse_colour(text: str) -> tuple[int, int, int]:
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise typer.BadParameter(
            f"--background must be a colour such as white or '#e0e0e0', not {text!r}"
        ) from None
    return red, green, blue


_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_size(text: str) -> int:
    """Bytes of `4G`, `800M` or `1.5GiB`; 0 for an empty text.

    Raises:
        BadParameter: when it is no such size.
    """
    if not text:
        return 0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = round(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if size < 1:
        raise typer.BadParameter(f"--max-memory must be a size such as 4G or 800M, not {text!r}")
    return size


def parse_tile(text: str, overlap: int) -> int | None:
    """The side of tiles: 0 for `off`, None for `auto`.

    Raises:
        BadParameter: when it is no side, or not more than the overlap.
    """
    if text in ("auto", "off"):
        return None if text == "auto" else 0
    if not (text.isascii() and text.isdigit() and int(text)):
        raise typer.BadParameter(f"--tile must be auto, off or a number of pixels, not {text!r}")
    if int(text) < max(2 * overlap, 32):
        raise typer.BadParameter(
            f"--tile {text} is too small: at least 32 pixels, and twice --tile-overlap {overlap}"
        )
    return int(text)
