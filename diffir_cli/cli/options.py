"""Options that several commands share, each declared once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.cli import panels
from diffir_cli.cli.conflicts import is_from_environment, is_from_file
from diffir_cli.errors import UsageError
from diffir_cli.options import DEVICE_NAME, DEVICE_NAMES, ColorFix, Engine, Precision, Task
from diffir_cli.util.extras import require_extra


def _names_of_weights(incomplete: str) -> list[str]:
    """Names of the registry that begin so, for the completion of a shell."""
    from diffir_cli.weights.registry import read_registry

    return [name for name in read_registry() if name.startswith(incomplete)]


def _check_device(context: typer.Context, value: str) -> str:
    """Refuse a name that no device has, before torch is loaded to ask for it.

    Of several devices, which the environment names for `diffir batch`, the first one is used.
    """
    preset = is_from_environment(context, "device") or is_from_file(context, "device")
    names = value.split(",") if preset else [value]
    _refuse_unknown(context, names)
    return names[0]


def _check_devices(context: typer.Context, value: str) -> str:
    _refuse_unknown(context, value.split(","))
    return value


def _refuse_unknown(context: typer.Context, devices: Iterable[str]) -> None:
    option, hint = "--device", "leave --device out to choose it automatically"
    if is_from_environment(context, "device"):
        option, hint = "DIFFIR_DEVICE", "unset DIFFIR_DEVICE to choose it automatically"
    for name in devices:
        if not DEVICE_NAME.fullmatch(name):
            raise UsageError(f"{option} must be {DEVICE_NAMES}, not {name!r:.40}", hint)


def _check_engine(value: Engine) -> Engine:
    """Refuse an engine that is not installed, before torch is loaded."""
    if value is Engine.OPENVINO:
        require_extra("openvino", "openvino")
    return value


TaskName = Annotated[
    Task,
    panels.model(
        "--task",
        case_sensitive=False,
        help="Restoration task. Default: the task of --weights if given by name, else realsr.",
        show_default=False,
    ),
]
Weights = Annotated[
    str | None,
    panels.model(
        "--weights",
        "-w",
        metavar="NAME|FILE",
        help="Weights: a name from the registry or a file. Default: the embedded ones of the task.",
        autocompletion=_names_of_weights,
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
    panels.model(
        "--scale",
        "-s",
        metavar="N",
        min=1,
        max=4,
        help="Scale of the network, not of the result: 1, 2 or 4.",
    ),
]
Registry = Annotated[
    Path | None,
    panels.model(
        "--registry",
        metavar="FILE",
        envvar="DIFFIR_REGISTRY",
        help="Your own weights registry, in the format of weights.toml.",
    ),
]
Offline = Annotated[
    bool, panels.model("--offline", help="Download nothing: use only what is on this machine.")
]
Device = Annotated[
    str,
    panels.speed(
        "--device",
        "-d",
        metavar="DEVICE",
        envvar="DIFFIR_DEVICE",
        callback=_check_device,
        help=f"Device: {DEVICE_NAMES}.",
    ),
]
Devices = Annotated[
    str,
    panels.speed(
        "--device",
        "-d",
        metavar="DEVICE",
        envvar="DIFFIR_DEVICE",
        callback=_check_devices,
        help=f"Device: {DEVICE_NAMES}. Several, separated by commas, share the work.",
    ),
]
PrecisionName = Annotated[
    Precision,
    panels.speed(
        "--precision", help="Number format. auto: bf16 where the hardware supports it, else fp32."
    ),
]
EngineName = Annotated[
    Engine,
    panels.speed(
        "--engine",
        callback=_check_engine,
        help="streaming: in strips, less memory. reference: the plain network. openvino: for "
        "Intel GPUs (-d xpu) and small images, DiffIR only. Same result.",
    ),
]
MaxMemory = Annotated[
    str,
    panels.speed(
        "--max-memory",
        metavar="SIZE",
        help="Memory limit, such as 4G. Default: most of the free memory.",
        show_default=False,
    ),
]
Tile = Annotated[
    str,
    panels.speed(
        "--tile",
        "-t",
        metavar="auto|off|N",
        help="Tile size in input pixels. auto: tiles only if the image does not fit into memory, "
        "or if the network was made for tiles, as ResShift.",
    ),
]
TileOverlap = Annotated[
    int,
    panels.speed(
        "--tile-overlap", metavar="N", min=0, max=1024, help="Overlap of tiles in input pixels."
    ),
]
ColorFixName = Annotated[
    ColorFix,
    panels.model(
        "--color-fix",
        help="Colours of the result: the input's by wavelet or adain, or none. auto fixes them "
        "for models that shift colours.",
    ),
]
Seed = Annotated[
    int,
    panels.model(
        "--seed",
        metavar="N",
        min=0,
        max=2**63 - 1,
        help="Random seed. The same seed gives the same result.",
    ),
]
Threads = Annotated[
    int | None,
    # Beyond that torch crashes where it cannot start so many.
    panels.speed(
        "--threads", metavar="N", min=1, max=1024, help="Number of CPU threads. Default: all."
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
Overwrite = Annotated[bool, panels.input_output("--overwrite", help="Replace existing files.")]
Json = Annotated[
    bool, panels.messages("--json", help="Print JSON to stdout: one object, or one line per item.")
]
Quiet = Annotated[bool, panels.messages("--quiet", "-q", help="Only print errors.")]
Verbose = Annotated[bool, panels.messages("--verbose", "-v", help="Print details.")]
