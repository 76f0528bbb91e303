"""Coherence transport: lines run on into holes, and what is known stays."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffir_cli.errors import DeviceError
from diffir_cli.models.diffir.config import ModelConfig, Tail
from diffir_cli.models.diffir.model import DiffIRModel
from diffir_cli.models.diffir.networks import DiffIRS2
from diffir_cli.models.diffir.priors import coherence
from diffir_cli.models.diffir.priors.coherence import filling_bytes, with_lines_continued
from diffir_cli.models.diffir.priors.preparing import prepared
from diffir_cli.options import Engine, Precision, RunOptions
from diffir_cli.runtime.runner import ModelRunner
from diffir_cli.training.loop import Trainer
from diffir_cli.util.diffusion_fill import smooth_fill
from tests.conftest import TINY, noise_image
from tests.processes import growth_of, in_own_process
from tests.runner_helpers import runner_of
from tests.training_helpers import check_resuming, make_recipe

_CONFIG = dataclasses.replace(
    TINY, scale=1, tail=Tail.CONV, in_channels=4, prefill=True, coherence_fill=True, gated=True
)


def _filled(image: Tensor, holes: Tensor) -> Tensor:
    """(1, 3, H, W) without what is in the (1, 1, H, W) holes, filled."""
    return with_lines_continued(torch.cat([image * (1 - holes), holes], dim=1))[:, :3]


def _stripes(angle: float) -> Tensor:
    """Soft stripes, 12 pixels each, at an angle in degrees, (1, 3, 96, 96)."""
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    turned = torch.deg2rad(torch.tensor(angle))
    along = rows * torch.cos(turned) + columns * torch.sin(turned)
    return (0.5 + 0.4 * torch.sin(along * 2 * torch.pi / 24)).expand(1, 3, -1, -1)


@pytest.mark.parametrize("angle", [0.0, 30.0, 45.0, 80.0])
def test_stripes_run_on_through_a_hole_better_than_in_a_smooth_filling(angle: float) -> None:
    image = _stripes(angle)
    holes = torch.zeros(1, 1, 96, 96)
    holes[..., 40:54, 30:66] = 1
    holes[..., 30:66, 40:54] = 1
    error = (_filled(image, holes) - image).abs().sum()
    assert float(error) < 0.5 * float((smooth_fill(image, holes) - image).abs().sum())


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 0.95), st.integers(0, 99))
def test_what_is_known_stays_and_what_is_filled_lies_between_known_values(
    height: int, width: int, share: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 3, height, width, generator=generator)
    holes = (torch.rand(1, 1, height, width, generator=generator) < share).float()
    filled = _filled(image, holes)
    known = (holes == 0).expand_as(image)
    assert torch.equal(filled[known], image[known])
    if known.any():
        assert filled.min() >= image[known].min() - 1e-5
        assert filled.max() <= image[known].max() + 1e-5


def test_a_hole_deeper_than_lines_are_continued_is_filled_to_its_middle() -> None:
    holes = torch.zeros(1, 1, 120, 140)
    holes[..., 10:110, 10:130] = 1
    filled = _filled(torch.full((1, 3, 120, 140), 0.4), holes)
    torch.testing.assert_close(filled, torch.full_like(filled, 0.4))


def test_where_nothing_is_known_the_filling_is_black() -> None:
    filled = _filled(torch.rand(1, 3, 17, 9), torch.ones(1, 1, 17, 9))
    assert torch.equal(filled, torch.zeros_like(filled))


def _scene() -> tuple[Tensor, Tensor]:
    """A picture and holes that cross the borders of several cells, (1, C, 150, 200)."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 20, 26, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (150, 200), mode="bicubic").clamp(0, 1)
    holes = torch.zeros(1, 1, 150, 200)
    for top, left, height, width in ((5, 40, 20, 120), (60, 120, 80, 17), (100, 0, 12, 150)):
        holes[..., top : top + height, left : left + width] = 1
    return image, holes


@pytest.mark.parametrize("cell", [32, 1000])
def test_the_squares_that_are_worked_on_at_a_time_do_not_show(
    cell: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, holes = _scene()
    expected = _filled(image, holes)
    monkeypatch.setattr(coherence, "_CELL", cell)
    torch.testing.assert_close(_filled(image, holes), expected, atol=1e-4, rtol=0)


def test_a_turned_picture_is_filled_as_the_picture_is() -> None:
    image, holes = _scene()
    turned = _filled(image.rot90(1, (2, 3)), holes.rot90(1, (2, 3)))
    torch.testing.assert_close(turned.rot90(-1, (2, 3)), _filled(image, holes), atol=1e-4, rtol=0)


def test_the_content_of_a_hole_has_no_influence_and_is_not_changed() -> None:
    image, holes = _scene()
    lq = torch.cat([image, holes], dim=1)
    before = lq.clone()
    filled = with_lines_continued(lq)
    assert torch.equal(lq, before)
    assert torch.equal(filled[:, :3], _filled(image, holes))


@pytest.mark.parametrize("engine", [Engine.STREAMING, Engine.REFERENCE])
def test_a_network_that_adds_nothing_gives_the_mean_of_both_fillings(engine: Engine) -> None:
    torch.manual_seed(0)
    network = DiffIRS2(_CONFIG).eval()
    with torch.no_grad():
        for parameter in network.dirformer.tail.parameters():
            parameter.zero_()
    runner = ModelRunner(DiffIRModel(network), RunOptions("cpu", Precision.FP32, engine))
    lq = noise_image(43, 61)
    mask = np.zeros((43, 61), np.bool_)
    mask[10:17, 5:50] = True
    image = torch.from_numpy(lq).permute(2, 0, 1)[None] / 255
    holes = torch.from_numpy(mask)[None, None].float()
    mean = (smooth_fill(image, holes) + _filled(image, holes)) / 2
    # But for rounding, and for the padding, which influences the smooth filling.
    found = runner.restore(lq, mask=mask)
    np.testing.assert_allclose(found, (mean[0].permute(1, 2, 0) * 255).numpy(), atol=3)


def test_progress_rises_to_all_and_an_exception_in_it_ends_the_filling() -> None:
    image, holes = _scene()
    lq, shares = torch.cat([image, holes], dim=1), [0.0]
    with_lines_continued(lq, shares.append)
    assert shares == sorted(shares) and shares[-1] == 1

    def stop(_share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with_lines_continued(lq, stop)


def test_training_reads_filled_crops_and_is_resumed_to_the_same_bits(
    photos: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(
        photos,
        stage=2,
        model=_CONFIG.to_dict(),
        loss={"ipr_weight": 0.0, "hole_weight": 2.0},
        data={"degradation": "holes", "patch": 32},
    )
    batch = Trainer(recipe, tmp_path / "look", "cpu")._batch(32, 4)
    holes = batch.lq[:, 3:] > 0
    assert holes.any()
    assert float(batch.lq[:, :3][holes.expand(-1, 3, -1, -1)].mean()) > 0.05
    check_resuming(recipe, tmp_path)


def _taken(height: int, width: int) -> int:
    """How many bytes the filling of strokes and of one large hole takes, at its peak."""
    torch.set_num_threads(2)
    image = torch.rand(1, 3, height, width)
    holes = torch.zeros(1, 1, height, width)
    holes[..., 30 : height // 2, 30 : width // 2] = 1
    holes[..., ::40, :] = 1
    lq = torch.cat([image, holes], dim=1)
    with_lines_continued(lq[..., :64, :64])
    return growth_of(lambda: with_lines_continued(lq))


@pytest.mark.xdist_group("measurements")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own figures")
def test_the_filling_takes_no_more_memory_than_predicted() -> None:
    height, width = 1100, 1300
    predicted = filling_bytes(height, width, threads=2)
    taken = [in_own_process(_taken, height, width) for _ in range(2)]
    assert 0.3 <= min(taken) / predicted <= 1.1, (taken, predicted)


def test_a_picture_whose_filling_does_not_fit_into_memory_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restorer = runner_of(DiffIRS2(_CONFIG), "cpu")
    lq, mask = noise_image(64, 64), np.eye(64, dtype=np.bool_)
    lq_tensor = torch.rand(1, 4, 640, 640)
    with pytest.raises(DeviceError, match="filling the holes of 640×640 pixels needs about"):
        prepared(_CONFIG, lq_tensor, budget=2**20)

    def full(*_arguments: object) -> None:
        raise cv2.error("OpenCV: error: (-4:Insufficient memory) Failed to allocate 9 bytes")

    monkeypatch.setattr("diffir_cli.models.diffir.priors.coherence.cv2.GaussianBlur", full)
    with pytest.raises(DeviceError, match="not enough memory for filling the holes of 64×64"):
        restorer.restore(lq, mask=mask)


def test_lines_are_continued_only_beside_a_smooth_filling() -> None:
    with pytest.raises(ValueError, match="coherence_fill needs prefill"):
        ModelConfig(scale=1, in_channels=4, coherence_fill=True)
