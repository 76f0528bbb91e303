"""`diffir export` writes ONNX files that compute what torch computes."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from diffir_cli.errors import DiffIRError, InputError
from diffir_cli.models.diffir.checkpoint import save_weights
from diffir_cli.models.diffir.config import ModelConfig, Tail
from diffir_cli.models.diffir.networks import DiffIRS2
from diffir_cli.version import __version__
from diffir_cli.weights.registry import find_weights
from tests.conftest import TINY, run_cli, succeeded

onnx: Any = pytest.importorskip("onnx")
onnxruntime: Any = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

MODULE: Any = importlib.import_module("diffir_cli.integrations.onnx")
REAL_GRAPH = MODULE._graph

one_process = pytest.mark.xdist_group("export")
"""Of tests that share what takes long to make, or to import."""


def run_onnx(path: Path, lq: torch.Tensor, x_T: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (hq,) = session.run(["hq"], {"lq": lq.numpy(), "x_T": x_T.numpy()})
    return torch.from_numpy(hq)


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def dimensions(value: Any) -> list[int | str]:
    return [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]


@pytest.fixture(scope="module")
def network() -> DiffIRS2:
    torch.manual_seed(0)
    return _with(TINY, num_blocks=(1, 0, 0, 1))


@pytest.fixture(scope="module")
def dynamic_file(network: DiffIRS2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny network, made once; beside it stands all that was printed meanwhile."""
    path = tmp_path_factory.mktemp("dynamic") / "tiny.onnx"
    save_weights(path.with_suffix(".safetensors"), network, {"task": "sr", "license": "MIT"})
    before = [os.dup(number) for number in (1, 2)]
    with path.with_name("libraries").open("wb") as printed:
        for number in (1, 2):
            os.dup2(printed.fileno(), number)
        try:
            done = run_cli("export", path.with_suffix(".safetensors"), path, "--dynamic")
        finally:
            for number, kept in zip((1, 2), before, strict=True):
                os.dup2(kept, number)
                os.close(kept)
    assert done.exit_code == 0, done.output
    path.with_name("stdout").write_text(done.stdout, encoding="utf-8")
    path.with_name("stderr").write_text(done.stderr, encoding="utf-8")
    return path


@one_process
def test_an_export_prints_one_line_and_no_warnings(dynamic_file: Path) -> None:
    assert not [
        name for name in ("stdout", "libraries") if dynamic_file.with_name(name).read_bytes()
    ]
    shown = dynamic_file.with_name("stderr").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in shown] == [f"{dynamic_file}: multiples of 8 pixels"]


@one_process
@pytest.mark.parametrize(("height", "width"), [(8, 8), (40, 104)])
@torch.no_grad()
def test_a_dynamic_file_agrees_with_torch_at_any_multiple(
    height: int, width: int, network: DiffIRS2, dynamic_file: Path
) -> None:
    lq, x_T = torch.rand(1, 3, height, width), torch.randn(1, 32)
    torch.testing.assert_close(run_onnx(dynamic_file, lq, x_T), network(lq, x_T), atol=1e-5, rtol=0)


@one_process
def test_a_dynamic_file_names_the_multiples_of_its_sides(dynamic_file: Path) -> None:
    graph = onnx.load(dynamic_file).graph
    assert [dimensions(value) for value in graph.input] == [[1, 3, "8*height", "8*width"], [1, 32]]
    assert dimensions(graph.output[0]) == [1, 3, "32*height", "32*width"]


@one_process
def test_a_file_says_where_its_weights_come_from_and_nothing_of_this_machine(
    dynamic_file: Path,
) -> None:
    from diffir_cli.util.files import file_sha256

    assert metadata(dynamic_file) == {
        "name": "tiny.safetensors",
        "task": "sr",
        "license": "MIT",
        "sha256": file_sha256(dynamic_file.with_name("tiny.safetensors")),
        "diffir": __version__,
        "scale": "4",
        "multiple": "8",
        "channels": "RGB",
    }
    assert str(Path(__file__).parent.parent).encode() not in dynamic_file.read_bytes()


@one_process
@torch.no_grad()
def test_a_file_of_fixed_size_and_named_opset_agrees_with_torch(
    small: DiffIRS2, small_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.onnx"
    result = succeeded(run_cli("export", small_file, path, "--input-size", "48x32", "--opset", 18))
    assert result.output.startswith(f"{path}: 48×32 pixels, opset 18, ")
    assert "from torch" in result.output
    assert {entry.version for entry in onnx.load(path).opset_import} == {18}
    lq, x_T = torch.rand(1, 3, 32, 48), torch.randn(1, 32)
    torch.testing.assert_close(run_onnx(path, lq, x_T), small(lq, x_T), atol=1e-5, rtol=0)
    assert metadata(path)["license"] == "unknown"


@one_process
@torch.no_grad()
def test_the_filling_of_holes_is_part_of_the_file(tmp_path: Path) -> None:
    network = _with(TINY, scale=1, tail=Tail.CONV, in_channels=4, prefill=True)
    weights, path = tmp_path / "fill.safetensors", tmp_path / "fill.onnx"
    save_weights(weights, network, {})
    succeeded(run_cli("export", weights, path, "--input-size", "8x8"))
    holes = torch.zeros(1, 1, 8, 8)
    holes[..., 2:7, 1:5] = 1
    lq = torch.cat([torch.rand(1, 3, 8, 8) * (1 - holes), holes], dim=1)
    x_T = torch.randn(1, 32)
    torch.testing.assert_close(run_onnx(path, lq, x_T), network(lq, x_T), atol=1e-5, rtol=0)


@one_process
def test_a_network_with_a_guess_is_exported_and_the_prior_is_said_to_be_an_input(
    tmp_path: Path,
) -> None:
    network = _with(TINY, scale=1, tail=Tail.CONV, in_channels=6, gated=True)
    weights, path = tmp_path / "deblur.safetensors", tmp_path / "deblur.onnx"
    save_weights(weights, network, {})
    result = succeeded(run_cli("export", weights, path, "--input-size", "16x16"))
    assert "lq has 6 channels: RGB; RGB of the deconvolution prior" in result.output
    assert dimensions(onnx.load(path).graph.input[0]) == [1, 6, 16, 16]


@one_process
def test_lines_that_run_on_into_holes_are_said_to_be_an_input(tmp_path: Path) -> None:
    channels = {"in_channels": 4, "prefill": True, "coherence_fill": True, "gated": True}
    network = _with(TINY, scale=1, tail=Tail.CONV, **channels)
    weights, path = tmp_path / "inpaint.safetensors", tmp_path / "inpaint.onnx"
    save_weights(weights, network, {})
    result = succeeded(run_cli("export", weights, path, "--input-size", "8x8"))
    assert "lq has 4 channels: RGB, holes filled by coherence transport" in result.output
    assert dimensions(onnx.load(path).graph.input[0]) == [1, 4, 8, 8]


@one_process
@pytest.mark.usefixtures("ready_graph")
def test_an_existing_file_is_replaced_only_when_asked(small_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "there.onnx"
    path.write_text("old")
    arguments = ("export", small_file, path, "--input-size", "16x16", "--quiet")
    assert run_cli(*arguments).exit_code == 3
    assert run_cli(*arguments, "--overwrite").exit_code == 0
    onnx.checker.check_model(onnx.load(path))


def test_a_stage_1_network_is_refused(s1_file: Path, tmp_path: Path) -> None:
    result = run_cli("export", s1_file, tmp_path / "y.onnx")
    assert result.exit_code == 4
    assert "holds a stage-1 network" in result.output


def test_a_free_size_is_refused_where_holes_are_filled(tmp_path: Path) -> None:
    for weights in ("inpaint-lite", find_weights("inpaint-lite").path):
        result = run_cli("export", weights, tmp_path / "y.onnx", "--dynamic")
        assert result.exit_code == 2
        assert "--dynamic cannot be used with inpaint-lite" in result.output


@pytest.mark.parametrize("module", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_extra_is_said_with_what_to_install(
    module: str, s2_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    result = run_cli("export", s2_file, tmp_path / "y.onnx")
    assert result.exit_code == 1
    assert result.output == (
        f"error: {module} is not installed\nhint: pip install 'diffir-cli[onnx]'\n"
    )


@one_process
@pytest.mark.usefixtures("ready_graph")
def test_a_file_that_computes_something_else_is_not_left_behind(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "TOLERANCE", -1.0)
    result = run_cli("export", small_file, tmp_path / "y.onnx", "--input-size", "16x16")
    assert result.exit_code == 1
    assert "at 16×16 pixels the file computes something else than torch" in result.output
    assert {path.name for path in tmp_path.iterdir()} == {small_file.name}


@one_process
@pytest.mark.usefixtures("ready_graph")
def test_what_torch_or_onnxruntime_cannot_do_is_one_error(
    small: DiffIRS2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise torch.onnx.OnnxExporterError("no such operator\nin some file")

    target = tmp_path / "y.onnx"
    with monkeypatch.context() as patched:
        patched.setattr(MODULE, "_graph", REAL_GRAPH)
        patched.setattr(torch.onnx, "export", fail)
        with pytest.raises(DiffIRError, match=r"cannot export this network: no such operator$"):
            MODULE.export_onnx(small, target, (16, 16))
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: 1 / 0)
    with pytest.raises(DiffIRError, match="onnxruntime cannot run the file: division by zero"):
        MODULE.export_onnx(small, target, (16, 16))
    assert not list(tmp_path.iterdir())


@one_process
@pytest.mark.usefixtures("ready_graph")
def test_a_file_that_appears_meanwhile_is_kept(
    small: DiffIRS2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "y.onnx"

    def appear(*_arguments: object) -> float:
        target.write_text("mine")
        return 0.0

    monkeypatch.setattr(MODULE, "_largest_difference", appear)
    with pytest.raises(InputError, match="cannot write"):
        MODULE.export_onnx(small, target, (16, 16))
    assert target.read_text() == "mine"


@pytest.mark.parametrize(("size", "change"), [((12, 8), {}), (None, {"prefill": True})])
def test_sizes_that_the_network_cannot_take_are_a_fault_of_the_program(
    size: tuple[int, int] | None, change: dict[str, Any], tmp_path: Path
) -> None:
    if change:
        change = {**change, "scale": 1, "tail": Tail.CONV, "in_channels": 4}
    with pytest.raises(ValueError, match=r"multiple|halving"):
        MODULE.export_onnx(_with(TINY, **change), tmp_path / "y.onnx", size)


def _with(config: ModelConfig, **changes: Any) -> DiffIRS2:
    """A random network of one block, in eval mode: an export takes time for each block."""
    small = dataclasses.replace(config, num_blocks=(1, 0, 0, 0), refinement_blocks=0)
    return DiffIRS2(dataclasses.replace(small, **changes)).eval()


@pytest.fixture(scope="module")
def small() -> DiffIRS2:
    torch.manual_seed(0)
    return _with(TINY)


@pytest.fixture(scope="module")
def graph(small: DiffIRS2) -> Any:
    return REAL_GRAPH(small, (16, 16), None)


@pytest.fixture
def ready_graph(graph: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch makes of the small network, made once: it takes seconds."""
    monkeypatch.setattr(MODULE, "_graph", lambda *_arguments: copy.deepcopy(graph))


@pytest.fixture
def small_file(small: DiffIRS2, tmp_path: Path) -> Path:
    save_weights(tmp_path / "small.safetensors", small, {})
    return tmp_path / "small.safetensors"
