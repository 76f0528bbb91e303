"""Options that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.cli import panels
from diffir_cli.errors import UsageError
from diffir_cli.options import DEVICE_NAME, ColorFix, Engine, Precision, Task
from diffir_cli.util.extras import require_extra


def _names_of_weights(incomplete: str) -> list[str]:
    """Names of the registry that begin so, for the completion of a shell."""
    from diffir_cli.weights.registry import read_registry

    return [name for name in read_registry() if name.startswith(incomplete)]


def _check_device(value: str) -> str:
    """Refuse a name that no device has, before torch is loaded to ask for it."""
    if not DEVICE_NAME.fullmatch(value):
        raise UsageError(
            f"--device must be auto, cpu, cuda, cuda:N, xpu, xpu:N or mps, not {value!r:.40}",
            "leave --device out to choose it automatically",
        )
    return value


def _check_devices(value: str) -> str:
    for name in value.split(","):
        _check_device(name)
    return value


def _check_engine(value: Engine) -> Engine:
    """Refuse an engine that is not installed, before torch is loaded."""
    if value is Engine.OPENVINO:
        require_extra("openvino", "openvino")
    return value


TaskName = Annotated[
    Task,
    typer.Option(
        "--task",
        case_sensitive=False,
        help="Restoration task. Default: the task of --weights if given by name, else realsr.",
        rich_help_panel=panels.MODEL,
        show_default=False,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        "-w",
        metavar="NAME|FILE",
        help="Weights: a name from the registry or a file. Default: the embedded ones of the task.",
        rich_help_panel=panels.MODEL,
        autocompletion=_names_of_weights,
        show_default=False,
    ),
]
WeightsArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE",
        help="Weights: a name from the registry or a file.",
        autocompletion=_names_of_weights,
    ),
]
OldTarget = Annotated[
    Path | None,
    # As OUT was once named, for one release.
    typer.Argument(metavar="OUT", hidden=True),
]
Scale = Annotated[
    int | None,
    typer.Option(
        "--scale",
        "-s",
        metavar="N",
        min=1,
        max=4,
        help="Scale of the network, not of the result: 1, 2 or 4.",
        rich_help_panel=panels.MODEL,
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
        rich_help_panel=panels.MODEL,
        show_default=False,
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        help="Download nothing: use only what is on this machine.",
        rich_help_panel=panels.MODEL,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        metavar="DEVICE",
        envvar="DIFFIR_DEVICE",
        callback=_check_device,
        help="Device: auto, cpu, cuda, cuda:N, xpu or mps.",
        rich_help_panel=panels.SPEED,
    ),
]
Devices = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        metavar="DEVICE",
        envvar="DIFFIR_DEVICE",
        callback=_check_devices,
        help="Device: auto, cpu, cuda, cuda:N, xpu or mps. Several, separated by commas, share "
        "the work.",
        rich_help_panel=panels.SPEED,
    ),
]
PrecisionName = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help="Number format. auto: bf16 where the hardware supports it, else fp32.",
        rich_help_panel=panels.SPEED,
    ),
]
EngineName = Annotated[
    Engine,
    typer.Option(
        "--engine",
        callback=_check_engine,
        help="streaming: in strips, less memory. reference: the plain network. openvino: for "
        "Intel GPUs (-d xpu) and small images. Same result.",
        rich_help_panel=panels.SPEED,
    ),
]
MaxMemory = Annotated[
    str,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="Memory limit, such as 4G. Default: most of the free memory.",
        rich_help_panel=panels.SPEED,
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
        rich_help_panel=panels.SPEED,
    ),
]
TileOverlap = Annotated[
    int,
    typer.Option(
        "--tile-overlap",
        metavar="N",
        min=0,
        max=1024,
        help="Overlap of tiles in input pixels.",
        rich_help_panel=panels.SPEED,
    ),
]
ColorFixName = Annotated[
    ColorFix,
    typer.Option(
        "--color-fix",
        help="Colours of the result: the input's by wavelet or adain, or none. auto fixes them "
        "for models that shift colours.",
        rich_help_panel=panels.MODEL,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        max=2**63 - 1,
        help="Random seed. The same seed gives the same result.",
        rich_help_panel=panels.MODEL,
    ),
]
Threads = Annotated[
    int | None,
    # Beyond that torch crashes where it cannot start so many.
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=1024,
        help="Number of CPU threads. Default: all.",
        rich_help_panel=panels.SPEED,
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a field of the recipe, such as optimizer.lr=1e-3. Repeatable.",
        show_default=False,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace existing files.", rich_help_panel=panels.INPUT_OUTPUT
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print JSON to stdout: one object, or one line per item.",
        rich_help_panel=panels.MESSAGES,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Only print errors.", rich_help_panel=panels.MESSAGES),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Print details.", rich_help_panel=panels.MESSAGES),
]
