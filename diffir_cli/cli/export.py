"""`diffir export`: a network as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffir_cli.cli import options
from diffir_cli.cli.console import print_json, print_message, working
from diffir_cli.cli.option_values import parse_sizes
from diffir_cli.cli.output_files import output_file
from diffir_cli.cli.weights import located
from diffir_cli.errors import UsageError
from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.options import Task
from diffir_cli.util.extras import require_extra

if TYPE_CHECKING:
    from diffir_cli.weights.locate import WeightFile

_SIDE = 256
"""Sides of the input where no size is named, before padding."""


def export(
    weights: options.WeightsArgument,
    target: options.OldTarget = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Output file (.onnx). Required."),
    ] = None,
    input_size: Annotated[
        str | None,
        typer.Option(
            "--input-size",
            metavar="WxH",
            help="Width and height of the input in pixels. Default: 256x256.",
        ),
    ] = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Leave width and height of the input free.")
    ] = False,
    opset: Annotated[
        int | None,
        typer.Option(
            "--opset",
            metavar="N",
            min=18,
            max=23,
            help="Version of the ONNX operators. Default: torch's choice.",
        ),
    ] = None,
    registry: options.Registry = None,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write a network as ONNX, compared with torch.

    onnxruntime runs the file, and its result is compared with that of torch before the file gets
    its name.
    """
    from diffir_cli.errors import WeightsError
    from diffir_cli.models.families import DEFAULT_FAMILY
    from diffir_cli.weights.registry import read_registry

    given = _parse_size(input_size)
    target = output_file(output or target, ".onnx", overwrite)
    require_extra("onnx", "onnx", "onnxscript", "onnxruntime")
    spec = read_registry(registry).get(weights)
    # The task of a file matters only to what it is used for.
    chosen = located(weights, spec.task if spec else Task.SR, registry, offline, quiet or json)
    if chosen.family not in (None, DEFAULT_FAMILY):
        raise WeightsError(
            f"{chosen.name} is a {chosen.family} model, which cannot be exported",
            "export takes DiffIR networks",
        )
    if chosen.config:
        _check_size(chosen.config, given, dynamic, chosen.name)

    with working(f"exporting {chosen.name}", quiet or json):
        from diffir_cli.integrations.onnx import channels_of, export_onnx
        from diffir_cli.models.diffir.checkpoint import load_checkpoint, rebuild_stage2
        from diffir_cli.models.diffir.priors.preparing import needs_preparing
        from diffir_cli.weights.imports import describe

        checkpoint = load_checkpoint(chosen.path, chosen.config)
        network = rebuild_stage2(checkpoint)
        config = network.config
        _check_size(config, given, dynamic, chosen.name)
        known = describe(chosen.path, checkpoint.config, checkpoint.metadata, registry)
        if spec:
            known |= {"task": spec.task.value, "license": spec.license}
        about = _about(chosen, known)
        sides = None if dynamic else given or (config.padded(_SIDE), config.padded(_SIDE))
        exported = export_onnx(network, target, sides, opset, about, overwrite)
    if json:
        print_json(
            {
                "output": str(target),
                "weights": {"name": chosen.name, "sha256": chosen.sha256},
                "input_size": list(sides) if sides else None,
                "opset": exported.opset,
                "bytes": exported.size,
                "difference": exported.difference,
            }
        )
    if quiet or json:
        return
    if needs_preparing(config):
        made = "fills the holes" if config.coherence_fill else "makes the prior"
        print_message(
            f"lq has {config.in_channels} channels: {channels_of(config)}. diffir {made} outside "
            "of the network"
        )
    shape = f"{sides[0]}×{sides[1]} pixels" if sides else f"multiples of {config.multiple} pixels"
    print_message(
        f"{target}: {shape}, opset {exported.opset}, {exported.size:,} bytes, "
        f"at most {exported.difference:.1e} from torch"
    )


def _about(chosen: WeightFile, known: dict[str, str]) -> dict[str, str]:
    """What the file says of its weights and of this program."""
    from diffir_cli.version import __version__

    return {
        "name": chosen.name,
        "task": known.get("task", "unknown"),
        "license": known.get("license", "unknown"),
        "sha256": chosen.sha256,
        "diffir": __version__,
    }


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    if "," in text:
        raise UsageError(f"--input-size takes one size, not {text!r:.40}", "write 256x256")
    return parse_sizes([text])[0]


def _check_size(
    config: ModelConfig, size: tuple[int, int] | None, dynamic: bool, name: str
) -> None:
    """Refuse sizes that a network cannot take.

    Raises:
        UsageError: when a side is no multiple of what the network needs, or the size must not be
            left free.
    """
    if dynamic and config.prefill:
        raise UsageError(
            f"--dynamic cannot be used with {name}, which fills holes in steps that depend on "
            "the size",
            "add --input-size instead",
        )
    multiple = config.multiple
    if size and any(side % multiple for side in size):
        width, height = (max(1, (side + multiple // 2) // multiple) * multiple for side in size)
        raise UsageError(
            f"--input-size {size[0]}x{size[1]} does not fit {name}, whose sides are multiples of "
            f"{multiple}",
            f"write {width}x{height}",
        )
