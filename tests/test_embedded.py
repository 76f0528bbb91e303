"""The weights that are part of the package: small, intact, and better than what one would type."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from diffir_cli.api import Restorer
from diffir_cli.degradations.kinds import MaskKind
from diffir_cli.degradations.masks import random_mask
from diffir_cli.degradations.motion_blur import ShakeRanges, shake
from diffir_cli.degradations.realworld import degrade
from diffir_cli.errors import ChecksumError
from diffir_cli.evaluation.metrics import luma, psnr, shave
from diffir_cli.imaging.bicubic import enlarge_bicubic, reduce_bicubic
from diffir_cli.models.diffir.checkpoint import load_checkpoint, load_model
from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.networks import DiffIRS2
from diffir_cli.options import Task
from diffir_cli.weights.locate import locate_weights
from diffir_cli.weights.registry import WeightSpec, default_weights, read_registry
from tests.conftest import DATA, run_cli, succeeded

_ROOT = Path(__file__).parents[1]
EMBEDDED = [spec for spec in read_registry().values() if spec.embedded]


@pytest.mark.parametrize("spec", EMBEDDED, ids=lambda spec: spec.name)
def test_the_registry_describes_the_file(spec: WeightSpec) -> None:
    data = spec.path.read_bytes()
    assert len(data) == spec.size
    assert hashlib.sha256(data).hexdigest() == spec.sha256
    assert load_checkpoint(spec.path).config == spec.model
    assert load_model(spec.path, spec.model).config.scale == spec.scale
    assert spec.training["recipe"] and spec.training["minutes"] > 0


@pytest.mark.parametrize("spec", EMBEDDED, ids=lambda spec: spec.name)
def test_the_recipes_that_the_registry_names_train_such_a_network(spec: WeightSpec) -> None:
    named = spec.training["recipe"] + " " + spec.training["photos"]
    recipes = re.findall(r"\S+\.toml", named)
    assert recipes
    for recipe in recipes:
        model = tomllib.loads((_ROOT / recipe).read_text())["model"]
        assert ModelConfig.from_dict(model) == spec.model, recipe
    for page in re.findall(r"docs/\S+\.\w+", named):
        assert (_ROOT / page).is_file(), page


@pytest.mark.parametrize("spec", EMBEDDED, ids=lambda spec: spec.name)
def test_embedded_weights_are_small_and_cheap(spec: WeightSpec) -> None:
    """At most 8 MB, and 3 G Mult-Adds for 64×64 pixels at ×4 or 8 G for 256×256 at ×1."""
    assert spec.path.stat().st_size <= 8_000_000
    side, limit = (64, 3e9) if spec.scale > 1 else (256, 8e9)
    with torch.device("meta"):
        model = DiffIRS2(spec.model)
        inputs = (
            torch.empty(1, spec.model.in_channels, side, side),
            torch.empty(1, spec.model.ipr_dim),
        )
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    assert counter.get_total_flops() / 2 <= limit


def _lighthouse(side: int = 256) -> NDArray[np.uint8]:
    truth = np.asarray(Image.open(DATA / "lighthouse-truth.webp").convert("RGB"))
    return np.ascontiguousarray(truth[300 : 300 + side, 100 : 100 + side])


def _draw() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.mark.parametrize("kind", [MaskKind.NARROW, MaskKind.WIDE])
def test_holes_are_filled_closer_to_the_truth_than_by_opencv(kind: MaskKind) -> None:
    truth = _lighthouse()
    mask = random_mask(_draw(), 256, 256, kind)
    holes = mask > 0
    filled = Restorer("inpaint", device="cpu").restore(truth, mask=holes)
    black = truth * (1 - mask[:, :, None])
    others = [
        cv2.inpaint(black, mask, 3, arguments) for arguments in (cv2.INPAINT_NS, cv2.INPAINT_TELEA)
    ]
    best = max(psnr(np.asarray(other)[holes], truth[holes]) for other in others)
    assert psnr(filled[holes], truth[holes]) > best


def test_the_shipped_photo_comes_out_closer_to_the_truth_than_bicubic(tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    succeeded(run_cli("restore", DATA / "lighthouse.png", "--task", "sr", "-o", out))
    truth, lq, restored = (
        np.asarray(Image.open(path).convert("RGB"))
        for path in (DATA / "lighthouse-truth.webp", DATA / "lighthouse.png", out)
    )
    np.testing.assert_array_equal(reduce_bicubic(truth, 4), lq)
    scores = [
        psnr(luma(shave(picture, 4)), luma(shave(truth, 4)))
        for picture in (restored, enlarge_bicubic(lq, 4))
    ]
    assert scores[0] > scores[1] + GAIN


GAIN = 0.5
"""dB over bicubic on the shipped photo, well below what was measured."""


def test_a_really_bad_photo_comes_out_closer_to_the_truth_than_enlarged() -> None:
    truth = _lighthouse()
    restorer = Restorer("realsr", device="cpu")
    gains = []
    for seed in range(4):
        lq = degrade(truth, 4, np.random.default_rng(seed))
        hq = restorer.restore(lq)
        gains.append(psnr(luma(hq), luma(truth)) - psnr(luma(enlarge_bicubic(lq, 4)), luma(truth)))
    assert np.mean(gains) > 0


def test_a_shaken_photo_comes_out_closer_to_the_truth() -> None:
    truth = _lighthouse()
    restorer = Restorer("deblur", device="cpu")
    gains = []
    for seed in range(4):
        lq = shake(truth, np.random.default_rng(seed), ShakeRanges(length=(7, 7)))
        gains.append(psnr(restorer.restore(lq), truth) - psnr(lq, truth))
    assert np.mean(gains) > 0.4


def test_every_task_works_without_a_download(tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    holes = np.zeros(Image.open(DATA / "lighthouse.png").size[::-1], np.uint8)
    holes[20:30, 40:60] = 255
    Image.fromarray(holes).save(mask)
    # Nobody has trained small weights for faces.
    for task in set(Task) - {Task.FACE}:
        more = ["--mask", mask] if task is Task.INPAINT else []
        out = tmp_path / f"{task.value}.png"
        succeeded(
            run_cli("restore", DATA / "lighthouse.png", "--task", task.value, "-o", out, *more)
        )
        assert out.stat().st_size > 10_000


def test_a_damaged_embedded_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = default_weights(Task.SR)
    data = bytearray(spec.path.read_bytes())
    data[-1000] ^= 1
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / spec.file).write_bytes(data)
    monkeypatch.setattr("diffir_cli.weights.registry.EMBEDDED", tmp_path / "weights")
    with pytest.raises(ChecksumError, match=spec.sha256):
        locate_weights(None, Task.SR)
