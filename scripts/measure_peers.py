"""Time diffir's streaming engine beside OpenVINO and onnxruntime, by turns in one process.

DIRformers of the official sizes with random weights, which cost what trained ones do. Each engine
is checked against the plain modules before it is timed. An engine is compared with OpenVINO in the
same precision, turn by turn, so that a change in the speed of the machine hits both. Needs
pip install 'diffir-cli[peers]'.

    python scripts/measure_peers.py --repeats 11 --markdown peers.md
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from diffir_cli.util.process import prepare_process

WORK = (("deblur-gopro", 256), ("deblur-gopro", 512), ("sr-x4", 64))
"""Names of the registry, and sides of the input in LQ pixels."""

HEADER = (
    "| network | input | engine | median (s) | time / OpenVINO | middle half | error |",
    "|---|---|---|---:|---:|---:|---:|",
)


def main() -> None:
    """Measure and print a Markdown table."""
    options = parse_arguments()
    # Threads are prepared before torch is imported.
    prepare_process()
    import torch

    from diffir_cli.benchmark.machine import describe_machine

    torch.set_num_threads(options.threads)
    # What exporters log and warn of would stand between the lines of the table.
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    peers = ", ".join(f"{name} {metadata.version(name)}" for name in ("openvino", "onnxruntime"))
    lines = [*describe_machine(torch.device("cpu")).lines(), peers, "", *HEADER]
    print("\n".join(lines), flush=True)
    for name, side in WORK:
        if not f"{name}-{side}".startswith(options.only):
            continue
        found = rows(name, side, *measure(name, side, options.threads, options.repeats))
        print("\n".join(found), flush=True)
        lines += found
    if options.markdown:
        options.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; of the command line if none are given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=_at_least_one, default=7, help="turns of all engines")
    parser.add_argument("--threads", type=_at_least_one, default=2, help="of each engine")
    parser.add_argument("--only", default="", help="the networks that begin so: sr-x4-64")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table, too")
    return parser.parse_args(arguments)


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def rows(
    name: str, side: int, times: Mapping[str, Sequence[float]], errors: Mapping[str, float]
) -> list[str]:
    """The lines of one network in the table.

    Args:
        name: Of the network.
        side: Of its input in LQ pixels.
        times: Seconds of each engine, turn by turn; their names end in the precision.
        errors: The largest difference of each engine from the plain modules.
    """
    lines = []
    for engine, seconds in times.items():
        peer = f"OpenVINO {engine.split()[-1]}"
        ratio, spread = "–", "–"
        if peer in times and peer != engine:
            ratios = [one / other for one, other in zip(seconds, times[peer], strict=True)]
            ratio = f"{statistics.median(ratios):.2f}"
            low, high = quartiles(ratios)
            spread = f"{low:.2f}–{high:.2f}"
        lines.append(
            f"| {name} | {side}×{side} | {engine} | {statistics.median(seconds):.3f} "
            f"| {ratio} | {spread} | {errors[engine]:.1e} |"
        )
    return lines


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Between which values the middle half lies."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, method="inclusive")
    return low, high


def measure(
    name: str, side: int, threads: int, repeats: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each engine, turn by turn, and its largest difference from the plain modules."""
    import torch

    from diffir_cli.benchmark.timing import Timing, by_turns
    from diffir_cli.models.diffir.networks import DIRformer
    from diffir_cli.weights.registry import find_weights

    config = find_weights(name).model
    torch.manual_seed(0)
    network = DIRformer(config).eval().requires_grad_(False)
    lq = torch.rand(1, config.in_channels, side, side)
    ipr = torch.randn(1, config.ipr_dim)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        truth = network(lq, ipr)
        path = Path(folder) / "network.onnx"
        _write_onnx(network, lq, ipr, path)
        engines = _engines(network, path, lq, ipr, threads)
        errors = {
            engine: float((torch.as_tensor(run()).float() - truth).abs().max())
            for engine, run in engines.items()
        }
        found = by_turns(list(engines.values()), repeats, torch.device("cpu"))
    times = {}
    for engine, timing in zip(engines, found, strict=True):
        if not isinstance(timing, Timing):
            raise timing
        times[engine] = list(timing.seconds)
    return times, errors


def _write_onnx(network: Any, lq: Any, ipr: Any, path: Path) -> None:
    import torch

    with torch.inference_mode(False), torch.no_grad():
        # Tensors of inference mode cannot be traced.
        example = torch.zeros(lq.shape), torch.zeros(ipr.shape)
        program = torch.onnx.export(
            network, example, dynamo=True, verbose=False, input_names=["lq", "ipr"]
        )
    program.save(path)


def _engines(
    network: Any, path: Path, lq: Any, ipr: Any, threads: int
) -> dict[str, Callable[[], Any]]:
    """What is compared, each ready to run."""
    import onnxruntime
    import openvino
    import torch

    from diffir_cli.models.diffir.streaming.dirformer import StreamingDIRformer

    engines: dict[str, Callable[[], Any]] = {}
    arrays = [lq.numpy(), ipr.numpy()]
    core = openvino.Core()
    native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for precision, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        stream = StreamingDIRformer(network, dtype)
        engines[f"diffir {precision}"] = lambda stream=stream: stream(lq, ipr)
        # Without the instructions it silently computes in f32.
        if precision == "f32" or native:
            settings = {
                "INFERENCE_PRECISION_HINT": precision,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
            }
            request = core.compile_model(path, "CPU", settings).create_infer_request()
            engines[f"OpenVINO {precision}"] = lambda request=request: request.infer(
                arrays, share_inputs=True
            )[0]
    choices = onnxruntime.SessionOptions()
    choices.intra_op_num_threads, choices.inter_op_num_threads = threads, 1
    # Else its threads still spin while the next engine is timed.
    choices.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), choices, providers=["CPUExecutionProvider"])
    named = dict(zip(("lq", "ipr"), arrays, strict=True))
    engines["onnxruntime f32"] = lambda: session.run(None, named)[0]
    return engines


if __name__ == "__main__":
    main()
