"""LPIPS, DISTS and FID in `diffir evaluate`, with networks that stand in for theirs."""

from __future__ import annotations

import csv
import importlib
import inspect
import json
import math
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffir_cli.errors import WeightsError
from diffir_cli.evaluation.kinds import Metric
from diffir_cli.evaluation.perceptual import Perceptual
from diffir_cli.imaging import read_picture
from diffir_cli.imaging.bicubic import enlarge_bicubic, reduce_bicubic
from tests.conftest import evaluated, noise_image, run_cli


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
    requested = ("--metric", "lpips-vgg", "--metric", "fid", "--metric", "dists", "--csv", report)
    found = evaluated("--gt", photos, "-w", s2_file, *requested)
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
    assert result.exit_code == 1 and "diffir-cli[metrics]" in result.stderr

    def offline(**_options: Any) -> None:
        raise OSError("no route to host")

    fake = ModuleType("torchmetrics")
    fake.image = SimpleNamespace(  # type: ignore[attr-defined]
        lpip=SimpleNamespace(LearnedPerceptualImagePatchSimilarity=offline)
    )
    monkeypatch.setitem(sys.modules, "torchmetrics", fake)
    result = run_cli("evaluate", "--gt", photos, "-w", s2_file, "--metric", "lpips-alex")
    assert result.exit_code == 4 and "no route to host" in result.stderr


@pytest.fixture
def without_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what other tests put in the place of torchvision, which torchmetrics looks at."""
    for name in list(sys.modules):
        if name.partition(".")[0] == "torchvision":
            monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("without_stand_ins")
def test_torchmetrics_has_what_is_asked_of_it() -> None:
    """Its networks need torchvision and weights from the network; its own code does not."""
    lpips = importlib.import_module("torchmetrics.image.lpip")
    fid = importlib.import_module("torchmetrics.image.fid")
    dists = importlib.import_module("torchmetrics.functional.image.dists")
    made = lpips.LearnedPerceptualImagePatchSimilarity
    inspect.signature(made).bind(net_type="alex", normalize=True)
    inspect.signature(dists.DISTSNetwork).bind()
    inspect.signature(fid.FrechetInceptionDistance).bind(normalize=False)
    assert importlib.import_module("torchmetrics.image").lpip is lpips


@pytest.mark.usefixtures("without_stand_ins")
def test_fid_of_torchmetrics_sees_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own class with features that need no weights: the mean colour."""

    class Colours(torch.nn.Module):
        num_features = 3

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert images.dtype == torch.uint8
            return images.double().mean(dim=(2, 3))

    fid = importlib.import_module("torchmetrics.image.fid")
    ready = fid.FrechetInceptionDistance(feature=Colours(), normalize=False)
    monkeypatch.setattr("diffir_cli.evaluation.perceptual._network", lambda _metric: ready)
    metric = Perceptual(Metric.FID, torch.device("cpu"))
    assert metric.score(noise_image(32, 32, seed=0), noise_image(32, 32, seed=1)) is None
    assert math.isnan(metric.overall() or 0)
    truths = [np.full((8, 8, 3), level, dtype=np.uint8) for level in (10, 20, 30)]
    ready.reset()
    for truth in truths:
        metric.score(truth + np.uint8(5), truth)
    # All colours are 5 levels off and vary alike: 3 · 5².
    assert metric.overall() == pytest.approx(75, rel=1e-3)


def test_an_image_too_small_for_a_metric_does_not_stop_the_others(
    photos: Path, s2_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Picky(_FakeNetwork):
        def __call__(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            if min(first.shape[-2:]) < 64:
                raise RuntimeError("Output size is too small\nand more")
            return super().__call__(first, second)

    monkeypatch.setattr("diffir_cli.evaluation.perceptual._network", lambda _metric: Picky())
    shutil.copytree(photos, tmp_path / "gt")
    Image.fromarray(noise_image(40, 40)).save(tmp_path / "gt" / "small.png")
    given = ("--gt", tmp_path / "gt", "-w", s2_file, "--metric", "fid", "--metric", "lpips-alex")
    result = run_cli("evaluate", *given, "--json")
    assert result.exit_code == 3
    assert (
        "lpips-alex cannot be measured on 40×40 pixels: Output size is too small" in result.stderr
    )
    assert "and more" not in result.stderr
    found = json.loads(result.stdout)["methods"]["bicubic"]
    assert len(found["images"]) == len(list(photos.iterdir()))
    assert found["fid"] == len(found["images"])


@pytest.mark.parametrize("offline", [True, False])
def test_offline_the_weights_of_a_metric_are_not_downloaded(
    offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def network(_metric: Metric) -> _FakeNetwork:
        torch.hub.download_url_to_file("https://weights.invalid/alex.pth", "alex.pth")
        return _FakeNetwork()

    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, _file: asked.append(url))
    monkeypatch.setattr("diffir_cli.evaluation.perceptual._network", network)
    if offline:
        with pytest.raises(WeightsError, match="downloads are off"):
            Perceptual(Metric.LPIPS_ALEX, torch.device("cpu"), offline=True)
    else:
        Perceptual(Metric.LPIPS_ALEX, torch.device("cpu"))
    assert bool(asked) is not offline
