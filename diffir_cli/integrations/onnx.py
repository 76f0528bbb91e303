"""Stage-2 networks as ONNX, for runtimes without torch.

The graph is that of the plain modules, without padding, rounding or a seed: `lq` and the noise
`x_T` go in, `hq` comes out. A file gets its name only after onnxruntime has computed from it what
torch computes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor

from diffir_cli.errors import DiffIRError
from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.networks import DiffIRS2
from diffir_cli.util.files import file_errors, whole_file
from diffir_cli.util.out_of_memory import oom_errors

INPUTS, OUTPUTS = ("lq", "x_T"), ("hq",)
"""Names of the graph's inputs and outputs."""

TOLERANCE = 1e-3
"""How far a number of the result may be from torch's, as a share of the largest, or of 1 if that is
smaller: a quarter of a level of 8 bits, a thousand times what rounding makes."""

_EXAMPLE = 64
"""Side of the picture that a graph of free size is traced with, before padding."""


@dataclass(frozen=True)
class Exported:
    """An ONNX file that has been checked."""

    opset: int
    """Version of the operators."""
    size: int
    """Bytes of the file."""
    difference: float
    """The largest difference between its results and torch's."""


def export_onnx(
    network: DiffIRS2,
    target: Path,
    size: tuple[int, int] | None,
    opset: int | None = None,
    about: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a network as ONNX, whole or not at all.

    Its inputs are `lq`, (1, in_channels, H, W) in [0, 1], and `x_T`, (1, 4C') of standard normal
    noise; its output is `hq`, (1, 3, scale·H, scale·W), near [0, 1] but not clamped. All are
    float32.

    Args:
        network: In eval mode on the CPU.
        target: The file.
        size: Width and height of `lq`, multiples of `config.multiple`; None leaves both free.
        opset: Version of the operators; None for torch's default.
        about: Further entries of the file's metadata.
        overwrite: Whether the file may be replaced.

    Raises:
        ValueError: when a side is no multiple, or the size of a network with `prefill` is free.
        DiffIRError: when torch cannot export the network, or the file computes something else.
        DeviceError: when memory does not suffice for a picture of this size.
        InputError: when the file cannot be written, or exists and may not be replaced.
    """
    config = network.config
    if size is None and config.prefill:
        raise ValueError("holes are filled by halving the picture as often as its size says")
    if size and any(side % config.multiple for side in size):
        raise ValueError(f"{size} are no multiples of {config.multiple}")
    with _memory_for(size):
        model = _graph(network, size, opset)
    found = next(entry.version for entry in model.opset_import if entry.domain == "")
    if opset not in (None, found):
        raise DiffIRError(
            f"torch wrote opset {found} instead of {opset}", "leave --opset out, or name another"
        )
    _describe(model, config, size, about or {})
    differences: list[float] = []

    def check(path: Path) -> None:
        with _memory_for(size):
            differences.append(_largest_difference(path, network, size))

    refused = file_errors(f"cannot write {target}", "name another folder")
    with refused, whole_file(target, overwrite, check) as file:
        file.write(model.SerializeToString())
    return Exported(found, target.stat().st_size, *differences)


@contextmanager
def _memory_for(size: tuple[int, int] | None) -> Iterator[None]:
    width, height = size or (_EXAMPLE, _EXAMPLE)
    with oom_errors(
        f"the machine ran out of memory at {width}×{height} pixels",
        "name a smaller --size, or use --dynamic",
    ):
        yield


def _graph(network: DiffIRS2, size: tuple[int, int] | None, opset: int | None) -> Any:
    """The network as a `ModelProto`."""
    config = network.config
    free: dict[str, Any] = {}
    if size is None:
        side = config.padded(_EXAMPLE)
        # Sides that differ, so that they are not taken for one.
        size = side + config.multiple, side
        height, width = (
            config.multiple * torch.export.Dim(name, min=1) for name in ("height", "width")
        )
        free["dynamic_shapes"] = ({2: height, 3: width}, None)
    try:
        with _silence(), torch.no_grad():
            program = torch.onnx.export(
                network,
                _inputs(config, size),
                dynamo=True,
                verbose=False,
                input_names=INPUTS,
                output_names=OUTPUTS,
                opset_version=opset,
                # It needs minutes for the thousands of nodes of the filling, which runtimes
                # optimise in a second.
                optimize=not config.prefill,
                **free,
            )
    except torch.onnx.OnnxExporterError as error:
        raise DiffIRError(
            f"torch cannot export this network: {str(error).splitlines()[0]}",
            "leave --opset out, or install the newest torch, onnx and onnxscript",
        ) from error
    assert program is not None
    return program.model_proto


@contextmanager
def _silence() -> Iterator[None]:
    """Keep back what exporters log and warn of, which no user can change."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _describe(
    model: Any, config: ModelConfig, size: tuple[int, int] | None, about: Mapping[str, str]
) -> None:
    """Put metadata into a file, and take what it says of this machine's folders out of it."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]
    onnx.helper.set_model_props(
        model,
        {
            **about,
            "scale": str(config.scale),
            "multiple": str(config.multiple),
            "channels": channels_of(config),
        },
    )
    if size is None:
        # Else they have names of torch's own.
        for axis, name in ((2, "height"), (3, "width")):
            dimension = graph.output[0].type.tensor_type.shape.dim[axis]
            dimension.dim_param = f"{config.multiple * config.scale}*{name}"


def channels_of(config: ModelConfig) -> str:
    """What the channels of `lq` are."""
    if config.coherence_fill:
        return "RGB, holes filled by coherence transport; mask, 1 in the holes"
    return {
        3: "RGB",
        4: "RGB, black in the holes; mask, 1 in the holes",
        6: "RGB; RGB of the deconvolution prior",
    }[config.in_channels]


def _largest_difference(path: Path, network: DiffIRS2, size: tuple[int, int] | None) -> float:
    """The largest difference between a file's results and torch's.

    Raises:
        DiffIRError: when it is beyond the tolerance, or onnxruntime cannot run the file.
    """
    config = network.config
    side = config.padded(_EXAMPLE)
    free = (config.multiple, config.multiple), (2 * side, side + config.multiple)
    options = onnxruntime.SessionOptions()
    # Only errors, which it raises too.
    options.log_severity_level = 4
    found = []
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        for each in (size,) if size else free:
            inputs = _inputs(config, each)
            with torch.inference_mode():
                hq = network(*inputs)
            named = {name: value.numpy() for name, value in zip(INPUTS, inputs, strict=True)}
            difference = (torch.from_numpy(session.run(None, named)[0]) - hq).abs().max()
            found.append(float(difference))
            # A comparison that NaN fails.
            if not found[-1] <= TOLERANCE * max(1.0, float(hq.abs().max())):
                raise DiffIRError(
                    f"at {each[0]}×{each[1]} pixels the file computes something else than torch: "
                    f"they differ by {found[-1]:.2g}",
                    "try another --opset, or other versions of onnxscript and onnxruntime",
                )
    # Its exceptions have no base of their own.
    except Exception as error:
        if isinstance(error, (DiffIRError, MemoryError, RuntimeError)):
            raise
        raise DiffIRError(
            f"onnxruntime cannot run the file: {str(error).splitlines()[0]}",
            "try another --opset, or the newest onnxruntime",
        ) from error
    return max(found)


def _inputs(config: ModelConfig, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A random `lq` of a width and a height, with one large hole where a network fills holes."""
    width, height = size
    rng = torch.Generator().manual_seed(0)
    lq = torch.rand(1, config.in_channels, height, width, generator=rng)
    if config.in_channels == 4:
        holes = torch.zeros(1, 1, height, width)
        holes[..., height // 8 :, : -(-width // 2)] = 1
        lq = torch.cat([lq[:, :3] * (1 - holes), holes], dim=1)
    return lq, torch.randn(1, config.ipr_dim, generator=rng)
