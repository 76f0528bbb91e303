"""The weights that are part of the package: small, intact, and better than what one would type."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from diffir_cli.checkpoint import load_checkpoint, load_model
from diffir_cli.config import Task
from diffir_cli.errors import ChecksumError
from diffir_cli.evaluation.metrics import luma, psnr, shave
from diffir_cli.imaging.bicubic import enlarge_bicubic, reduce_bicubic
from diffir_cli.networks import DiffIRS2
from diffir_cli.registry import WeightSpec, default_weights, read_registry
from diffir_cli.weightfile import locate_weights
from tests.conftest import DATA, run_cli

EMBEDDED = [spec for spec in read_registry().values() if spec.embedded]


@pytest.mark.parametrize("spec", EMBEDDED, ids=lambda spec: spec.name)
def test_the_registry_describes_the_file(spec: WeightSpec) -> None:
    data = spec.path.read_bytes()
    assert len(data) == spec.size
    assert hashlib.sha256(data).hexdigest() == spec.sha256
    assert load_checkpoint(spec.path).config == spec.model
    assert load_model(spec.path, spec.model).config.scale == spec.scale
    assert spec.training["recipe"] and spec.training["minutes"] > 0


def test_super_resolution_is_small_and_cheap() -> None:
    spec = default_weights(Task.SR)
    assert spec.path.stat().st_size <= 6_000_000
    with torch.device("meta"):
        model = DiffIRS2(spec.model)
        inputs = torch.empty(1, 3, 64, 64), torch.empty(1, spec.model.ipr_dim)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    assert counter.get_total_flops() / 2 <= 3e9


def test_the_shipped_photo_comes_out_closer_to_the_truth_than_bicubic(tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    result = run_cli("restore", DATA / "lighthouse.png", "--task", "sr", "-o", out)
    assert result.exit_code == 0, result.output
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


def test_a_damaged_embedded_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = default_weights(Task.SR)
    data = bytearray(spec.path.read_bytes())
    data[-1000] ^= 1
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / spec.file).write_bytes(data)
    monkeypatch.setattr("diffir_cli.registry._PACKAGE", tmp_path)
    with pytest.raises(ChecksumError, match=spec.sha256):
        locate_weights(None, Task.SR)
