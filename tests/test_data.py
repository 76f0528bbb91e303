"""Batches and losses: pure functions of what they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffir_cli.degradations.bicubic import bicubic_pair
from diffir_cli.degradations.kinds import Degradation
from diffir_cli.degradations.motion_blur import shake
from diffir_cli.errors import InputError, RecipeError
from diffir_cli.imaging.bicubic import reduce_bicubic
from diffir_cli.models.diffir.checkpoint import load_model
from diffir_cli.models.diffir.networks import DiffIRS2
from diffir_cli.training.data import Crops, Prefetched, load_pairs, load_photos
from diffir_cli.training.diffir.stage1 import stage1_losses
from diffir_cli.training.kinds import Augment
from diffir_cli.training.sources import GeneratedPairs, StoredPairs
from tests.conftest import noise_image
from tests.training_helpers import log_rows, make_recipe, progressive, run_training


def _bicubic_crops(photos: Path, patch: int, seed: int = 0) -> Crops:
    pairs = [bicubic_pair(photo, 4) for photo in load_photos([str(photos)])]
    return Crops([(StoredPairs(pairs, 4, patch, Augment.ALL), 1.0)], seed)


def test_a_batch_depends_on_seed_and_iteration_alone(photos: Path) -> None:
    crops = _bicubic_crops(photos, 8, 3)
    first = crops.batch(7, 8, 4)
    crops.batch(8, 8, 4)
    assert torch.equal(crops.batch(7, 8, 4).lq, first.lq)
    assert not torch.equal(crops.batch(8, 8, 4).lq, first.lq)
    assert not torch.equal(_bicubic_crops(photos, 8, 4).batch(7, 8, 4).lq, first.lq)


def test_processes_share_a_batch_without_gap_or_overlap(photos: Path) -> None:
    crops = _bicubic_crops(photos, 8)
    whole = crops.batch(5, 8, 6)
    shares = [crops.batch(5, 8, 6, rank, 3) for rank in range(3)]
    for index in range(6):
        assert torch.equal(shares[index % 3].gt[index // 3], whole.gt[index])


def test_the_two_halves_of_a_pair_show_the_same_place(photos: Path) -> None:
    """In every one of the eight orientations: inside, LQ is the bicubic reduction of GT."""
    crops = _bicubic_crops(photos, 16)
    batch = crops.batch(0, 16, 24)
    for lq, gt in zip(batch.lq, batch.gt, strict=True):
        truth = (gt * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        reduced = reduce_bicubic(truth, 4)[3:-3, 3:-3]
        found = (lq * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()[3:-3, 3:-3]
        np.testing.assert_array_equal(found, reduced)


def test_photos_smaller_than_a_crop_are_refused(photos: Path) -> None:
    with pytest.raises(InputError, match="none of 3 photos"):
        _bicubic_crops(photos, 64)


def test_photos_of_sixteen_bits_are_rounded_to_eight(tmp_path: Path) -> None:
    deep = np.array([[0, 128, 129, 257], [385, 386, 65_406, 65_407]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    (photo,) = load_photos([str(tmp_path)])
    assert photo[:, :, 0].tolist() == [[0, 0, 1, 1], [1, 2, 254, 255]]


def test_all_photos_that_cannot_be_read_are_named_at_once(photos: Path) -> None:
    for name in ("bad.png", "worse.png"):
        (photos / name).write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"2 photos cannot be read: .*bad\.png.*worse\.png"):
        load_photos([str(photos)])


def test_a_batch_made_ahead_is_the_batch_itself(photos: Path) -> None:
    crops = _bicubic_crops(photos, 16)
    ahead = Prefetched(crops.batch)
    for iteration, patch, size in (
        (0, 8, 3),
        (1, 8, 3),
        (2, 8, 2),
        (7, 8, 2),
        (8, 16, 2),
        (3, 8, 3),
    ):
        expected = crops.batch(iteration, patch, size).gt
        assert torch.equal(ahead.batch(iteration, patch, size).gt, expected)
    ahead.close()


@pytest.mark.parametrize("kind", [Degradation.REALWORLD, Degradation.SHAKE, Degradation.HOLES])
def test_fresh_pairs_are_degraded_anew_by_the_seed_alone(kind: Degradation, photos: Path) -> None:
    scale = 4 if kind is Degradation.REALWORLD else 1
    source = GeneratedPairs(load_photos([str(photos)]), kind, scale, 16, augment=Augment.ALL)
    crops = Crops([(source, 1.0)], 0)
    batch = crops.batch(3, 16, 2)
    assert batch.lq.shape == (2, 4 if kind is Degradation.HOLES else 3, 16, 16)
    assert batch.gt.shape == (2, 3, 16 * scale, 16 * scale)
    again = crops.batch(3, 16, 2)
    assert torch.equal(batch.lq, again.lq) and torch.equal(batch.gt, again.gt)
    if kind is Degradation.HOLES:
        colours, mask = batch.lq[:, :3], batch.lq[:, 3:]
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        assert torch.equal(colours, batch.gt * (1 - mask))


def test_real_pairs_take_their_share(photos: Path, tmp_path: Path) -> None:
    black = tmp_path / "black"
    black.mkdir()
    for path in photos.iterdir():
        Image.new("RGB", Image.open(path).size).save(black / path.name)
    real = StoredPairs(load_pairs([str(black)], [str(photos)], 1), 1, 16, augment=Augment.ALL)
    in_subprocess = GeneratedPairs(
        load_photos([str(photos)]), Degradation.SHAKE, 1, 16, augment=Augment.ALL
    )
    batch = Crops([(in_subprocess, 0.7), (real, 0.3)], 0).batch(0, 16, 200)
    share = float((batch.lq.flatten(1).amax(dim=1) == 0).float().mean())
    assert share == pytest.approx(0.3, abs=0.1)


def test_crops_grow_at_their_shares_of_the_schedule(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    def watched(*arguments: Any) -> dict[str, torch.Tensor]:
        seen.append(tuple(arguments[1].lq.shape))
        return stage1_losses(*arguments)

    monkeypatch.setattr("diffir_cli.training.diffir.trainable.stage1_losses", watched)
    recipe = make_recipe(photos, data=progressive([0.5, 0.75], [16, 32], [3, 1]), iterations=8)
    run_training(recipe, tmp_path / "grown")
    assert seen == [(4, 3, 8, 8)] * 4 + [(3, 3, 16, 16)] * 2 + [(1, 3, 32, 32)] * 2


def test_blur_reaches_into_a_crop_from_its_surroundings(photos: Path) -> None:
    """A crop's LQ is that of a larger picture, not of the crop with its border mirrored."""
    (photo,) = load_photos([str(photos)], 1)
    source = GeneratedPairs([photo], Degradation.SHAKE, 1, 64, augment=Augment.NONE)
    side = 64 + 2 * source.margin
    assert source.margin >= 16
    lq, gt, *_ = source.crop(np.random.default_rng(5), 64)
    rng = np.random.default_rng(5)
    rng.choice(1, p=[1.0])
    top, left = (int(rng.integers(length - side + 1)) for length in photo.shape[:2])
    around = photo[top : top + side, left : left + side]
    inside = slice(source.margin, side - source.margin)
    np.testing.assert_array_equal(gt, around[inside, inside])
    np.testing.assert_array_equal(lq, shake(around, rng)[inside, inside])


def test_photos_that_are_left_out_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    photos = [noise_image(40, 60), noise_image(31, 60), noise_image(64, 8)]
    source = StoredPairs([(photo, photo) for photo in photos], 1, 32, Augment.ALL)
    assert source.photos.chosen == [0]
    assert caplog.messages == ["2 of 3 photos have a side below 32 pixels"]


def test_pairs_that_do_not_match_are_named(photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (192, 160)).save(other / "9.png")
    with pytest.raises(InputError, match="no matching file named '9'"):
        load_pairs([str(other)], [str(photos)], 1)
    (other / "9.png").rename(other / "0.png")
    with pytest.raises(InputError, match="no pair of scale 4"):
        load_pairs([str(other)], [str(photos)], 4)


def test_pairs_called_alike_in_several_folders_belong_together_folder_by_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, (name, colour) in enumerate((("a", 50), ("b", 100))):
        for half in ("lq", "gt"):
            folder = tmp_path / name / half
            folder.mkdir(parents=True)
            grey = colour + 5 * (half == "gt")
            Image.new("L", (16, 16), grey).save(folder / "000001.png")
        Image.new("L", (16, 16)).save(tmp_path / name / "gt" / f"spare{number}.png")
    lq, gt = ([str(tmp_path / name / half) for name in "ab"] for half in ("lq", "gt"))
    pairs = load_pairs(lq, gt, 1)
    assert [(int(first[0, 0, 0]), int(partner[0, 0, 0])) for first, partner in pairs] == [
        (50, 55),
        (100, 105),
    ]
    assert caplog.messages == [f"1 of 2 images of {folder} have no matching file" for folder in gt]
    with pytest.raises(InputError, match="have the same name apart from the extension"):
        load_pairs(lq[:1], gt, 1)
    Image.new("L", (16, 16)).save(Path(lq[1]) / "no twin.png")
    with pytest.raises(InputError, match="has no matching file"):
        load_pairs(lq, gt, 1)
    assert len(load_pairs(lq, gt, 1, 2)) == 2


def test_pairs_that_are_given_and_not_used_are_told(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Crops.of(make_recipe(photos, data={"pairs_lq": [str(photos)], "pairs_gt": [str(photos)]}))
    assert caplog.messages == ["data.pairs_share is 0: the pairs of data.pairs_lq are not used"]


_TASKS: dict[str, dict[str, Any]] = {
    "realworld": {"data": {"degradation": "realworld", "sharpen_gt": True}},
    "shake": {"data": {"degradation": "shake", "patch": 16}, "model": {"scale": 1, "tail": "conv"}},
    "shake, unshuffled": {"data": {"degradation": "shake", "patch": 32}, "model": {"scale": 1}},
    "shake with a prior": {
        "data": {"degradation": "shake", "patch": 16, "windows": 2, "window": 64},
        "model": {"scale": 1, "tail": "conv", "in_channels": 6, "gated": True},
    },
    "holes": {
        "data": {"degradation": "holes", "patch": 32},
        "model": {"scale": 1, "tail": "conv", "in_channels": 4, "residual": False},
        "loss": {"known_weight": 1.0, "hole_weight": 2.0},
    },
}


@pytest.mark.parametrize("task", _TASKS)
def test_every_task_is_trained_and_validated_in_both_stages(
    task: str, photos: Path, tmp_path: Path
) -> None:
    first = run_training(make_recipe(photos, iterations=2, **_TASKS[task]), tmp_path / "s1")
    recipe = make_recipe(photos, stage=2, init=str(first), iterations=2, **_TASKS[task])
    assert isinstance(load_model(run_training(recipe, tmp_path / "s2")), DiffIRS2)
    for folder in ("s1", "s2"):
        assert 3 < float(log_rows(tmp_path / folder)[-1]["psnr"]) < 60


def _with_prior(**data: object) -> dict[str, Any]:
    return {"model": {"scale": 1, "tail": "conv", "in_channels": 6}, "data": data}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"data": {"degradation": "holes"}}, "does not go with a model that takes no mask"),
        ({"data": {"degradation": "shake"}}, "needs model.scale 1"),
        ({"model": {"scale": 1}, "data": {"patch": 32}}, "bicubic needs a model.scale above 1"),
        (_with_prior(degradation="realworld"), "does not go with model.in_channels 6"),
        (_with_prior(degradation="shake", window=7), "data.window must hold the largest crop"),
        (_with_prior(degradation="shake", window=48), "data.window must be at least 64"),
        ({"data": {"windows": 5}}, "have an effect with model.in_channels 6 only"),
        ({"data": {"sharpen_gt": True}}, "data.sharpen_gt has an effect"),
        ({"data": {"pairs_share": 0.5}}, "pairs_share needs data.pairs_lq and pairs_gt"),
        ({"data": {"pairs_below": 36}}, "pairs_below has an effect with model.in_channels 6"),
        (
            {
                "model": {"scale": 1, "tail": "conv", "in_channels": 4},
                "data": {"degradation": "holes"},
                "validation": {"lq": "."},
            },
            "validation.lq has no effect with holes",
        ),
        ({"validation": {"gt": "", "lq": "."}}, "validation.lq needs validation.gt"),
        ({"loss": {"ipr": "l2"}}, "loss has an effect in stages 2 and 3 only"),
        ({"data": {"masks": ["narrow"]}}, "data.masks has an effect on holes only"),
        ({"data": {"progressive_at": [0.5, 0.7]}}, "must be equally long"),
        ({"data": progressive([1.5], [16], [2])}, "must rise between 0 and 1"),
        (
            {"data": progressive([0.5], [9], [0])},
            "progressive_patch must hold multiples of 8, not 9",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    change: dict[str, Any], fault: str, photos: Path
) -> None:
    with pytest.raises(RecipeError, match=fault):
        make_recipe(photos, **change)


@pytest.mark.parametrize(("augment", "seen"), [("all", 8), ("flip", 2), ("none", 1)])
def test_crops_are_seen_in_the_orientations_that_the_recipe_names(augment: str, seen: int) -> None:
    photo = np.arange(16 * 16 * 3, dtype=np.uint16).astype(np.uint8).reshape(16, 16, 3)
    photo[0, 0] = 255
    source = GeneratedPairs([photo], Degradation.BICUBIC, 1, 16, augment=Augment(augment))
    crops = {source.crop(np.random.default_rng(n), 16)[1].tobytes() for n in range(200)}
    assert len(crops) == seen
