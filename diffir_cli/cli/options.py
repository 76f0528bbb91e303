"""Options that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffir_cli.options import ColorFix, Engine, Precision, Task

if TYPE_CHECKING:
    pass

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
