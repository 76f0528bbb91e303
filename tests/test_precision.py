"""`--precision auto` takes the units that a device has, and says which it took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from diffir_cli.models.diffir.networks import DiffIRS2
from diffir_cli.options import Precision
from diffir_cli.runtime import device
from diffir_cli.runtime.device import choose_precision, cpu_multiplies_bf16
from tests.batch_helpers import lines
from tests.conftest import noise_image, run_cli
from tests.runner_helpers import runner_of

CPU = torch.device("cpu")


@pytest.fixture
def with_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that multiplies in bf16, or emulates it for these tests."""
    monkeypatch.setattr(device, "cpu_multiplies_bf16", lambda: True)


@pytest.mark.parametrize("deep", [False, True])
def test_a_cpu_without_units_takes_fp32(deep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cpu_multiplies_bf16", lambda: False)
    assert choose_precision(Precision.AUTO, CPU, deep) is Precision.FP32


@pytest.mark.usefixtures("with_units")
def test_a_cpu_with_units_takes_bf16_for_eight_bits_only() -> None:
    assert choose_precision(Precision.AUTO, CPU) is Precision.BF16
    assert choose_precision(Precision.AUTO, CPU, deep=True) is Precision.FP32
    assert choose_precision(Precision.FP32, CPU) is Precision.FP32
    assert choose_precision(Precision.BF16, CPU, deep=True) is Precision.BF16


@pytest.mark.parametrize("limit", ["AVX2", "avx512_core", "AVX512_CORE_VNNI"])
def test_units_that_libraries_may_not_use_do_not_count(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert cpu_multiplies_bf16()
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    assert cpu_multiplies_bf16()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert not cpu_multiplies_bf16()


@pytest.mark.parametrize("machine", ["x86_64", "arm64"])
def test_a_torch_without_onednn_or_without_an_answer_takes_fp32(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        assert not cpu_multiplies_bf16()
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name)
    assert not cpu_multiplies_bf16()


@pytest.mark.usefixtures("with_units")
def test_each_image_is_restored_in_the_format_for_its_depth(s2: DiffIRS2) -> None:
    restorer = runner_of(s2, "cpu")
    lq = noise_image(16, 16)
    deep = lq.astype(np.uint16) * 257
    taken, results = [], []
    for image in (lq, deep, (lq / 255).astype(np.float32)):
        found = restorer.run(image)
        results.append(found.pixels)
        taken.append(found.precision.value)
    assert taken == ["bf16", "fp32", "fp32"]
    exact = runner_of(s2, "cpu", Precision.FP32).restore(deep)
    assert np.array_equal(results[1], exact)


@pytest.mark.usefixtures("with_units")
def test_json_tells_which_format_was_taken(s2_file: Path, tmp_path: Path) -> None:
    Image.fromarray(noise_image(16, 16)).save(tmp_path / "a.png")
    options: tuple[Any, ...] = ("-w", s2_file, "-d", "cpu", "--json", "-o")
    result = run_cli("restore", tmp_path / "a.png", *options, tmp_path / "b.png")
    assert json.loads(result.stdout)["precision"] == "bf16"
    cv2.imwrite(str(tmp_path / "deep.png"), noise_image(16, 16).astype(np.uint16) * 257)
    result = run_cli("restore", tmp_path / "deep.png", *options, tmp_path / "c.png")
    assert json.loads(result.stdout)["precision"] == "fp32"


def test_a_batch_is_not_made_again_where_auto_takes_another_format(
    s2_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(noise_image(16, 16)).save(tmp_path / "in" / "a.png")
    command = (
        "batch",
        tmp_path / "in",
        "-w",
        s2_file,
        "-d",
        "cpu",
        "--json",
        "-o",
        tmp_path / "out",
    )
    monkeypatch.setattr(device, "cpu_multiplies_bf16", lambda: True)
    first = run_cli(*command)
    assert lines(first)[0]["precision"] == "bf16"
    journal = (tmp_path / "out" / ".diffir-journal.jsonl").read_text(encoding="utf-8")
    assert '"precision": "bf16"' in journal
    monkeypatch.setattr(device, "cpu_multiplies_bf16", lambda: False)
    assert [line.get("status") for line in lines(run_cli(*command))] == [None]
