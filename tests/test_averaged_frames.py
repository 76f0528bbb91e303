"""Averaged frames: what moves and by how much, which frame is the truth, where windows lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from diffir_cli.degradations.averaged_frames import FrameRanges, averaged_frames, sharp_frame
from diffir_cli.degradations.kinds import Degradation
from diffir_cli.errors import RecipeError
from diffir_cli.training.data import Crops
from diffir_cli.training.kinds import Augment
from diffir_cli.training.sources import GeneratedPairs
from tests.conftest import noise_image
from tests.training_helpers import make_recipe

STILL = FrameRanges(
    open_for=(0, 0), length=(1e-6, 1e-6), roll=0, approach=0, depth=0, things=(0, 0), noise=(0, 0)
)


def test_a_seed_says_all_and_another_moves_otherwise() -> None:
    gt = noise_image(64, 80)
    first, again, other = (averaged_frames(gt, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == gt.shape and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_what_does_not_move_stays_as_it_is_and_what_is_flat_stays_flat() -> None:
    gt = noise_image(64, 80)
    np.testing.assert_array_equal(averaged_frames(gt, np.random.default_rng(0), STILL), gt)
    flat = np.full((64, 80, 3), 77, np.uint8)
    for seed in range(5):
        moved = averaged_frames(flat, np.random.default_rng(seed), FrameRanges(noise=(0, 0)))
        np.testing.assert_array_equal(moved, flat)


@pytest.mark.parametrize("count", [8, 9])
def test_the_truth_is_the_frame_behind_half_of_them(count: int) -> None:
    gt = np.zeros((256, 256, 3), np.uint8)
    gt[127:130, 127:130] = 255
    ranges = replace(STILL, frames=(count, count), length=(110, 110))
    reporter = 0
    for seed in range(12):
        seen = averaged_frames(gt, np.random.default_rng(seed), ranges)[:, :, 0]
        spots, _, _, middles = cv2.connectedComponentsWithStats((seen > 9).astype(np.uint8))
        places = middles[1:] - 128
        if spots != count + 1:
            continue
        # A path that hardly turns has its frames in the order of their places along it.
        _, _, axes = np.linalg.svd(places - places.mean(axis=0))
        along = np.sort(places @ axes[0])
        number = int(np.abs(along).argmin())
        assert abs(along[number]) < 1.5
        assert number in (count // 2, count - 1 - count // 2)
        reporter += 1
    assert reporter >= 6


def test_a_camera_that_rolls_blurs_the_corners_and_not_the_middle() -> None:
    gt = noise_image(128, 128)
    ranges = replace(STILL, roll=8.0)
    changes = np.zeros(2)
    for seed in range(6):
        change = np.abs(averaged_frames(gt, np.random.default_rng(seed), ranges) - gt.astype(float))
        changes += change[62:66, 62:66].mean(), change[:16, :16].mean()
    assert changes[0] < 0.5 * changes[1]


def test_a_thing_moves_by_itself_in_its_part_of_the_picture() -> None:
    gt = noise_image(200, 200)
    with_it = replace(STILL, things=(1, 1), length=(6, 6))
    for seed in range(4):
        pictures = [
            averaged_frames(gt, np.random.default_rng(seed), ranges)
            for ranges in (with_it, replace(with_it, things=(0, 0)))
        ]
        differ = np.any(pictures[0] != pictures[1], axis=2).mean()
        assert 0.01 < differ < 0.7


def test_a_window_is_cut_from_a_picture_each_part_of_which_is_blurred_its_own_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photo = noise_image(150, 220)
    monkeypatch.setattr("diffir_cli.training.sources.sharp_frame", lambda photo, _: photo)
    source = GeneratedPairs([photo], Degradation.FRAMES, 1, 64, Augment.NONE)
    windows, whole = source.windows(np.random.default_rng(3), 64)
    assert whole.shape == photo.shape and len(windows) == source.per_picture == 2
    found = set()
    for lq, gt in windows:
        assert lq.shape == gt.shape == (64, 64, 3) and (lq != gt).any()
        spots = [
            (top, left)
            for top in range(150 - 63)
            for left in range(220 - 63)
            if np.array_equal(photo[top : top + 64, left : left + 64], gt)
        ]
        ((top, left),) = spots
        np.testing.assert_array_equal(whole[top : top + 64, left : left + 64], lq)
        found.add((top, left))
    assert len(found) == 2


def test_the_truth_is_as_soft_as_a_single_frame_is() -> None:
    photo = noise_image(120, 120)
    np.testing.assert_array_equal(
        sharp_frame(photo, np.random.default_rng(0), replace(STILL, softness=(0, 0))), photo
    )
    spreads = [
        sharp_frame(photo, np.random.default_rng(0), replace(STILL, softness=(s, s))).std()
        for s in (0.3, 0.6, 0.9)
    ]
    assert photo.std() > spreads[0] > spreads[1] > spreads[2]
    source = GeneratedPairs([photo], Degradation.FRAMES, 1, 32, Augment.NONE)
    truths = [source.crop(np.random.default_rng(seed), 32)[1] for seed in range(8)]
    assert np.mean([truth.std() for truth in truths]) < 0.8 * photo.std()


def test_photos_are_shared_among_shakes_and_frames(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = {Degradation.SHAKE: 10, Degradation.FRAMES: 20}
    monkeypatch.setattr(
        "diffir_cli.training.sources.degraded", lambda gt, kind, *_: np.full_like(gt, levels[kind])
    )
    model = {"scale": 1, "tail": "conv"}
    data = {"degradation": "shake", "patch": 16, "frames_share": 0.3}
    batch = Crops.of(make_recipe(photos, model=model, data=data)).batch(0, 16, 300)
    seen = (batch.lq * 255).round().flatten(1).mean(dim=1)
    assert set(seen.tolist()) == {10.0, 20.0}
    assert float((seen == 20).float().mean()) == pytest.approx(0.3, abs=0.08)
    only = Crops.of(make_recipe(photos, model=model, data={**data, "frames_share": 1.0}))
    assert len(only.sources) == 1
    folders = {"pairs_lq": [str(photos)], "pairs_gt": [str(photos)]}
    most = {**data, **folders, "pairs_share": 0.7, "frames_share": 0.3}
    assert len(Crops.of(make_recipe(photos, model=model, data=most)).sources) == 2


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({"degradation": "frames"}, "degradation frames needs model.scale 1"),
        ({"frames_share": 0.5}, "frames_share goes with data.degradation shake only"),
        (
            {"frames_share": 0.6, "pairs_share": 0.5, "pairs_lq": ["."], "pairs_gt": ["."]},
            "pairs_share and frames_share must not be more than 1 together",
        ),
        ({"degradation": "shake", "frames_share": -0.1}, "frames_share must lie between 0 and 1"),
    ],
)
def test_shares_that_make_no_sense_are_refused(
    data: dict[str, Any], fault: str, photos: Path
) -> None:
    with pytest.raises(RecipeError, match=fault):
        make_recipe(photos, data=data)
