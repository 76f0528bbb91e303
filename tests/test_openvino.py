"""`--engine openvino`: the same pictures from programs of OpenVINO."""

from __future__ import annotations

import json
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffir_cli.errors import DeviceError
from diffir_cli.models.diffir.config import Tail
from diffir_cli.models.diffir.model import DiffIRModel
from diffir_cli.models.diffir.networks import DiffIRS2
from diffir_cli.options import Engine, MemoryLimits, Precision, RunOptions
from diffir_cli.runtime.runner import ModelRunner
from diffir_cli.util import extras, openvino_programs
from tests.conftest import TINY, noise_image, run_cli

pytest.importorskip("openvino")

OPTIONS = RunOptions("cpu", Precision.FP32, Engine.OPENVINO)

NETWORKS = {
    "enlarges": TINY,
    "sharpens": replace(TINY, scale=1, tail=Tail.CONV),
    "fills holes": replace(TINY, scale=1, tail=Tail.CONV, in_channels=4, prefill=True),
    "continues lines": replace(
        TINY,
        scale=1,
        tail=Tail.CONV,
        in_channels=4,
        prefill=True,
        coherence_fill=True,
        gated=True,
    ),
    "reads a prior": replace(TINY, scale=1, tail=Tail.CONV, in_channels=6, gated=True),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_program_computes_what_the_plain_modules_compute_at_any_size(kind: str) -> None:
    torch.manual_seed(0)
    network = DiffIRModel(DiffIRS2(NETWORKS[kind]).eval())
    program = ModelRunner(network, OPTIONS)
    plain = ModelRunner(network, replace(OPTIONS, engine=Engine.REFERENCE))
    for height, width in ((16, 24), (40, 9), (16, 24)):
        lq = torch.rand(1, 3, height, width)
        if network.info.takes_mask:
            holes = torch.zeros(1, 1, height, width)
            holes[..., 2:5, 3:8] = 1
            lq = torch.cat([lq * (1 - holes), holes], dim=1)
        expected = plain.run_tensor(lq)
        torch.testing.assert_close(program.run_tensor(lq), expected, atol=1e-4, rtol=0)


def test_another_engine_may_move_the_network_to_another_device(s2: DiffIRS2) -> None:
    model = DiffIRModel(s2)
    runner = ModelRunner(model, OPTIONS)
    lq = torch.rand(1, 3, 16, 16)
    expected = ModelRunner(model, replace(OPTIONS, engine=Engine.STREAMING)).run_tensor(lq)
    model.to(torch.device("meta"), torch.float32, Engine.STREAMING)
    torch.testing.assert_close(runner.run_tensor(lq), expected, atol=1e-4, rtol=0)


def test_a_format_without_kernels_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = iter(["no primitive descriptors"] * 2 + ["could not create a memory object"])

    def refuse(*_arguments: object) -> None:
        raise RuntimeError(next(refusals))

    monkeypatch.setattr("openvino.Core.compile_model", refuse)
    pixels, cpu = torch.zeros(1, 3, 8, 8), torch.device("cpu")
    network = openvino_programs.OpenVinoNetwork(torch.nn.ReLU(), [pixels])
    with pytest.raises(DeviceError, match="does not compute in bf16 on cpu") as caught:
        network.run([pixels], torch.bfloat16, cpu)
    assert caught.value.hint == "use --precision fp32"
    with pytest.raises(RuntimeError, match="no primitive"):
        network.run([pixels], torch.float32, cpu)
    # Memory that runs out is no matter of the format.
    with pytest.raises(RuntimeError, match="memory object"):
        network.run([pixels], torch.bfloat16, cpu)


def test_a_result_outlives_the_next_one(s2: DiffIRS2) -> None:
    runner = ModelRunner(DiffIRModel(s2), OPTIONS)
    first = runner.run_tensor(torch.zeros(1, 3, 16, 16))
    kept = first.clone()
    runner.run_tensor(torch.ones(1, 3, 16, 16))
    assert torch.equal(first, kept)


def test_nothing_is_reported_to_the_makers_of_openvino(
    s2: DiffIRS2, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("nobody has agreed to that")

    monkeypatch.setattr("openvino_telemetry.Telemetry.__init__", report)
    ModelRunner(DiffIRModel(s2), OPTIONS).run_tensor(torch.zeros(1, 3, 16, 16))


def test_tiles_are_those_of_the_other_engines(s2: DiffIRS2) -> None:
    limits = MemoryLimits(tile=48, overlap=8)
    lq = noise_image(60, 100)
    plain = RunOptions("cpu", Precision.FP32, Engine.REFERENCE, limits)
    expected = ModelRunner(DiffIRModel(s2), plain).run(lq)
    found = ModelRunner(DiffIRModel(s2), replace(plain, engine=Engine.OPENVINO)).run(lq)
    assert found.tile == expected.tile == 48
    difference = np.abs(found.pixels.astype(int) - expected.pixels)
    assert difference.max() <= 1


def test_a_limit_of_memory_makes_tiles(s2: DiffIRS2) -> None:
    runner = ModelRunner(DiffIRModel(s2), OPTIONS)
    whole = runner.plan(512, 512).needed
    limited = replace(OPTIONS, limits=MemoryLimits(whole // 2))
    plan = ModelRunner(DiffIRModel(s2), limited).plan(512, 512)
    assert plan.tile and plan.needed <= whole // 2


def test_results_say_which_engine_made_them(s2_file: Path, tmp_path: Path, photos: Path) -> None:
    where = "-w", s2_file, "-o", tmp_path / "out.png"
    done = run_cli(
        "restore", photos / "0.png", "--task", "sr", *where, "--engine", "openvino", "--json"
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["engine"] == "openvino"


def test_a_network_without_programs_is_refused(s2: DiffIRS2) -> None:
    model = DiffIRModel(s2)
    model.info = replace(model.info, engines=frozenset({Engine.STREAMING}))
    with pytest.raises(DeviceError, match="diffir networks do not run with --engine openvino"):
        ModelRunner(model, OPTIONS)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "--engine openvino does not run on cuda"),
        ("xpu:1", "xpu:1 is not available: OpenVINO finds 1 GPUs of Intel"),
    ],
)
def test_devices_are_those_of_openvino(
    device: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = types.SimpleNamespace(available_devices=["CPU", "GPU"])
    monkeypatch.setattr("openvino.Core", lambda: core)
    with pytest.raises(DeviceError, match=message):
        openvino_programs.openvino_device(device)
    assert openvino_programs.openvino_device("xpu") == torch.device("xpu", 0)
    assert openvino_programs.openvino_device("auto").type == "cpu"


def test_a_missing_openvino_is_refused_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: Path
) -> None:
    nothing = types.SimpleNamespace(find_spec=lambda _name: None)
    monkeypatch.setattr(extras, "util", nothing)
    done = run_cli("restore", photos / "0.png", "-o", tmp_path / "out.png", "--engine", "openvino")
    assert done.exit_code == 1, done.stderr
    assert "pip install 'diffir-cli[openvino]'" in done.stderr
