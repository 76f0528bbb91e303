"""LPIPS, DISTS and FID in `diffir evaluate`, with networks that stand in for theirs."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from diffir_cli.imaging import read_picture
from diffir_cli.imaging.bicubic import enlarge_bicubic, reduce_bicubic
from tests.conftest import evaluated, run_cli


class _FakeNetwork:
    """Stands in for a learned metric: half the mean difference; FID counts its images."""

    def __init__(self, **_options: Any) -> None:
        self.real_features_num_samples = 0
        self.made = 0

    def to(self, _device: torch.device) -> _FakeNetwork:
        return self

    def eval(self) -> _FakeNetwork:
        return self

    def __call__(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        assert float(first.max()) <= 1
        return (first - second).abs().mean() / 2

    def update(self, images: torch.Tensor, real: bool) -> None:
        assert images.dtype == torch.uint8
        self.real_features_num_samples += real
        self.made += not real

    def compute(self) -> torch.Tensor:
        assert self.made == self.real_features_num_samples
        return torch.tensor(float(self.made))


def test_learned_metrics_join_the_table(
    photos: Path, s2_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = SimpleNamespace(
        fid=SimpleNamespace(FrechetInceptionDistance=_FakeNetwork),
        lpip=SimpleNamespace(LearnedPerceptualImagePatchSimilarity=_FakeNetwork),
    )
    fake = ModuleType("torchmetrics")
    fake.image = image  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchmetrics", fake)
    dists = ModuleType("torchmetrics.functional.image.dists")
    dists.DISTSNetwork = _FakeNetwork  # type: ignore[attr-defined]
    for name in ("torchmetrics.functional", "torchmetrics.functional.image"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, dists.__name__, dists)
    report = tmp_path / "scores.csv"
    one = ("--gt", photos / "0.png", "-w", s2_file, "--metric", "fid")
    assert "a single pair has none" in run_cli("evaluate", *one).stdout
    wished = ("--metric", "lpips-vgg", "--metric", "fid", "--metric", "dists", "--csv", report)
    found = evaluated("--gt", photos, "-w", s2_file, *wished)
    bicubic = found["methods"]["bicubic"]
    assert bicubic["fid"] == 3
    gt = read_picture(photos / "0.png").rgb.astype(float)
    back = enlarge_bicubic(reduce_bicubic(gt.astype(np.uint8), 4), 4)
    expected = np.abs(back - gt).mean() / 255 / 2
    assert bicubic["images"][0]["lpips-vgg"] == pytest.approx(expected, rel=1e-4)
    assert bicubic["images"][0]["dists"] == pytest.approx(expected, rel=1e-4)
    with report.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "bicubic"]
    assert [row["fid"] for row in rows] == ["", "", "", "3.0"]


def test_learned_metrics_that_cannot_be_had_say_why(
    photos: Path, s2_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    result = run_cli("evaluate", "--gt", photos, "-w", s2_file, "--metric", "lpips-alex")
    assert result.exit_code == 1 and "diffir[metrics]" in result.stderr

    def offline(**_options: Any) -> None:
        raise OSError("no route to host")

    fake = ModuleType("torchmetrics")
    fake.image = SimpleNamespace(  # type: ignore[attr-defined]
        lpip=SimpleNamespace(LearnedPerceptualImagePatchSimilarity=offline)
    )
    monkeypatch.setitem(sys.modules, "torchmetrics", fake)
    result = run_cli("evaluate", "--gt", photos, "-w", s2_file, "--metric", "lpips-alex")
    assert result.exit_code == 4 and "no route to host" in result.stderr
