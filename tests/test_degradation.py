"""What training does to photos: seeded, in range, and of the kind that was promised."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diffir_cli.degradations.kernels import (
    _CHANCES,
    KernelRanges,
    bell_kernel,
    random_final_kernel,
    random_kernel,
    sinc_kernel,
)
from diffir_cli.degradations.kinds import MaskKind, PreviewKind
from diffir_cli.degradations.masks import _BOXES, _THICK, random_mask
from diffir_cli.degradations.motion_blur import ShakeRanges, random_shake_kernel, shake
from diffir_cli.degradations.preview import contact_sheet
from diffir_cli.degradations.realworld import FINAL_SINC, FIRST, SECOND, degrade, sharpen
from diffir_cli.evaluation.metrics import psnr
from diffir_cli.imaging import read_picture
from diffir_cli.imaging.bicubic import reduce_bicubic
from tests.conftest import DATA, noise_image, run_cli, succeeded


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    return read_picture(DATA / "lighthouse-truth.webp").rgb[100:356, 100:356]


def _draw(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_every_random_kernel_is_odd_within_its_sizes_and_keeps_the_brightness() -> None:
    for seed in range(200):
        kernel = random_kernel(_draw(seed), KernelRanges((0.2, 3.0)))
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2 == 1 and 7 <= kernel.shape[0] <= 21
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)


def test_a_gaussian_has_its_deviations_along_its_turned_axes() -> None:
    kernel = bell_kernel(41, np.array([4.0, 1.5]), math.pi / 6).astype(np.float64)
    y, x = np.mgrid[-20:21, -20:21]
    covariance = np.array([[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)])
    values, vectors = np.linalg.eigh(covariance)
    assert np.sqrt(values) == pytest.approx([1.5, 4.0], rel=0.01)
    assert abs(vectors[:, 1] @ [math.cos(math.pi / 6), math.sin(math.pi / 6)]) == pytest.approx(1)


def test_a_low_pass_kernel_keeps_slow_waves_and_stops_fast_ones() -> None:
    spectrum = np.abs(np.fft.fft2(sinc_kernel(21, math.pi / 2), s=(256, 256)))
    assert spectrum[0, 10] == pytest.approx(1, abs=0.15)
    assert spectrum[0, 110:146].max() < 0.15
    assert (sinc_kernel(21, math.pi / 2) < 0).any()


def test_the_last_kernel_changes_nothing_without_its_chance() -> None:
    assert random_final_kernel(_draw(0), (7, 21), 0.0).tolist() == [[1.0]]
    assert random_final_kernel(_draw(0), (7, 21), 1.0).size > 1


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_real_world_photo_has_its_size_and_depends_on_the_seed_alone(
    scale: int, photo: NDArray[np.uint8]
) -> None:
    first = degrade(photo, scale, _draw(3))
    assert first.shape == (256 // scale, 256 // scale, 3) and first.dtype == np.uint8
    degrade(photo, scale, _draw(4))
    np.testing.assert_array_equal(degrade(photo, scale, _draw(3)), first)
    assert (degrade(photo, scale, _draw(4)) != first).any()


def test_real_world_photos_are_worse_than_bicubic_ones_and_recognisable(
    photo: NDArray[np.uint8],
) -> None:
    clean = reduce_bicubic(photo, 4)
    scores = [psnr(degrade(photo, 4, _draw(seed)), clean) for seed in range(30)]
    assert max(scores) < 45
    assert 18 < np.median(scores) < 32
    assert np.std(scores) > 1


def test_the_degradation_keeps_up_with_training(photo: NDArray[np.uint8]) -> None:
    """A fast core does more than 20 a second: fewer than 1 is a mistake and no slow machine."""
    started = time.process_time()
    for seed in range(10):
        degrade(photo, 4, _draw(seed))
    assert 10 / (time.process_time() - started) > 1


def test_sharpening_strengthens_edges_and_leaves_flat_places(photo: NDArray[np.uint8]) -> None:
    assert sharpen(photo).std() > photo.std()
    flat = np.full((64, 64, 3), 120, np.uint8)
    np.testing.assert_array_equal(sharpen(flat), flat)


def test_a_shake_kernel_is_a_thin_trace_of_the_asked_extent() -> None:
    for seed in range(100):
        kernel = random_shake_kernel(_draw(seed), ShakeRanges(length=(20, 20)))
        assert kernel.shape[0] == kernel.shape[1] and kernel.shape[0] % 2 == 1
        assert kernel.sum() == pytest.approx(1, abs=1e-5) and kernel.min() >= 0
        rows, columns = np.nonzero(kernel)
        assert 20 <= max(np.ptp(rows), np.ptp(columns)) <= 22
        assert (kernel > 0).mean() < 0.4
        weighted = [(kernel * grid).sum() for grid in np.mgrid[: len(kernel), : len(kernel)]]
        assert weighted == pytest.approx([len(kernel) // 2] * 2, abs=0.1)


def test_a_shaken_photo_is_blurred_within_its_frame(photo: NDArray[np.uint8]) -> None:
    for seed in range(5):
        blurred = shake(photo, _draw(seed))
        assert blurred.shape == photo.shape
        assert 15 < psnr(blurred, photo) < 40
        np.testing.assert_array_equal(shake(photo, _draw(seed)), blurred)


def test_a_flat_picture_survives_shaking_up_to_noise() -> None:
    flat = np.full((64, 64, 3), 120, np.uint8)
    quiet = ShakeRanges(noise=(0, 0))
    assert np.abs(shake(flat, _draw(0), quiet).astype(int) - 120).max() <= 1


def test_blur_is_light_and_not_numbers() -> None:
    """Half black and half white, smeared: the middle is brighter than the mean of the levels."""
    edge = np.zeros((65, 65, 3), np.uint8)
    edge[:, 33:] = 255
    ranges = ShakeRanges(length=(30, 30), highlights=(1, 1), noise=(0, 0))
    blurred = np.mean([shake(edge, _draw(seed), ranges)[32, 32] for seed in range(20)])
    assert blurred > 150


@pytest.mark.parametrize("kind", MaskKind)
@pytest.mark.parametrize("shape", [(256, 256), (300, 200), (40, 40)])
def test_every_mask_has_holes_of_ones_and_depends_on_the_seed_alone(
    kind: MaskKind, shape: tuple[int, int]
) -> None:
    for seed in range(20):
        mask = random_mask(_draw(seed), *shape, kind)
        assert mask.shape == shape and mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1}
        np.testing.assert_array_equal(random_mask(_draw(seed), *shape, kind), mask)


def test_narrow_holes_are_thinner_than_wide_ones() -> None:
    import cv2

    depth = {
        kind: np.mean(
            [
                cv2.distanceTransform(random_mask(_draw(s), 256, 256, kind), cv2.DIST_L2, 5).max()
                for s in range(40)
            ]
        )
        for kind in (MaskKind.NARROW, MaskKind.WIDE)
    }
    assert depth[MaskKind.NARROW] * 2 < depth[MaskKind.WIDE]


@pytest.mark.parametrize("kind", PreviewKind)
def test_a_contact_sheet_shows_the_photo_and_its_versions(
    kind: PreviewKind, tmp_path: Path
) -> None:
    out = tmp_path / "sheet.png"
    succeeded(
        run_cli("degrade", DATA / "lighthouse.png", "-o", out, "--kind", kind.value, "--count", 5)
    )
    with Image.open(out) as sheet:
        assert sheet.size == (3 * 128, 2 * 192)
    first = read_picture(out).rgb[:192, :128]
    np.testing.assert_array_equal(first, read_picture(DATA / "lighthouse.png").rgb)


def test_kernels_keep_their_proportions_on_a_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    cross = np.eye(9, dtype=np.float32) + np.eye(9, dtype=np.float32)[::-1]
    monkeypatch.setattr(
        "diffir_cli.degradations.preview.random_shake_kernel", lambda *_arguments: cross
    )
    for height, width in ((90, 150), (150, 90), (90, 90)):
        photo = noise_image(height, width)
        sheet = contact_sheet(photo, PreviewKind.SHAKE_KERNELS, 1, 0)
        drawn = sheet[: photo.shape[0] // 4 * 4, -(photo.shape[1] // 4 * 4) :, 0]
        rows, columns = np.nonzero(drawn)
        assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=2)


def test_a_contact_sheet_refuses_what_it_cannot_show(tmp_path: Path) -> None:
    photo, out = DATA / "lighthouse.png", tmp_path / "out.png"
    made = run_cli("degrade", photo, "-o", tmp_path / "made.png", "--count", 1, "--json")
    assert json.loads(made.stdout)["count"] == 1 and made.stderr == ""
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    assert run_cli("degrade", tmp_path / "small.png", "-o", out).exit_code == 3
    assert not out.exists()


@pytest.mark.parametrize("kind", [PreviewKind.REALWORLD, PreviewKind.MASK_WIDE])
def test_a_folder_of_twins_depends_on_seed_and_names_alone(
    kind: PreviewKind, photos: Path, tmp_path: Path
) -> None:
    def degraded(name: str, seed: int = 0) -> dict[str, bytes]:
        options = ("--kind", kind.value, "--seed", seed, "-q")
        assert run_cli("degrade", photos, "-o", tmp_path / name, *options).exit_code == 0
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    first = degraded("first")
    assert set(first) == {"0.png", "1.png", "2.png"}
    size = (48, 40) if kind is PreviewKind.REALWORLD else (192, 160)
    assert Image.open(tmp_path / "first" / "0.png").size == size
    assert degraded("other seed", 1)["1.png"] != first["1.png"]
    (photos / "0.png").unlink()
    again = degraded("again")
    assert again["1.png"] == first["1.png"] and again["2.png"] == first["2.png"]


def test_degraded_photos_that_exist_are_not_replaced(photos: Path, tmp_path: Path) -> None:
    assert run_cli("degrade", photos, "-o", tmp_path / "lq").exit_code == 0
    result = run_cli("degrade", photos, "-o", tmp_path / "lq")
    assert result.exit_code == 3 and "already exists" in result.stderr


@pytest.mark.parametrize("kind", [MaskKind.TRAIN, MaskKind.NARROW])
def test_holes_shrink_with_a_small_picture(kind: MaskKind) -> None:
    """So that a picture of 64 pixels keeps as much as one of 256, square or not."""
    small, wide, large = (
        np.mean([random_mask(_draw(seed), *shape, kind).mean() for seed in range(40)])
        for shape in ((64, 64), (64, 72), (256, 256))
    )
    assert small == pytest.approx(large, abs=0.02) and wide == pytest.approx(large, abs=0.06)
    assert 0.05 < large < 0.6


def test_a_picture_too_small_for_a_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="no mask fits 1×1 pixels"):
        random_mask(_draw(0), 1, 1)


def test_the_numbers_are_those_that_diffir_trains_with() -> None:
    """Real-ESRGAN's for photos, LaMa's for holes."""
    assert (FIRST.kernel.sigma, FIRST.blur, FIRST.resize) == ((0.2, 3.0), 1.0, (0.2, 0.7, 0.1))
    assert (FIRST.factors, FIRST.gaussian, FIRST.gaussian_sigma) == ((0.15, 1.5), 0.5, (1, 30))
    assert (FIRST.poisson_scale, FIRST.grey, FIRST.jpeg) == ((0.05, 3.0), 0.4, (30, 95))
    assert (SECOND.kernel.sigma, SECOND.blur, SECOND.resize) == ((0.2, 1.5), 0.8, (0.3, 0.4, 0.3))
    assert (SECOND.factors, SECOND.gaussian, SECOND.gaussian_sigma) == ((0.3, 1.2), 0.5, (1, 25))
    assert (SECOND.poisson_scale, SECOND.grey, SECOND.jpeg) == ((0.05, 2.5), 0.4, (30, 95))
    assert FINAL_SINC == 0.8
    for one in (FIRST, SECOND):
        assert (one.kernel.sizes, one.kernel.sinc) == ((7, 21), 0.1)
    # Round and elongated: Gaussian, generalised, plateau.
    assert _CHANCES == (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    assert (_THICK.count, _THICK.angle, _THICK.length, _THICK.width) == ((1, 5), 4, 200, 100)
    assert (_BOXES.count, _BOXES.margin, _BOXES.side) == ((1, 4), 10, (30, 150))


def test_a_photo_that_cannot_be_read_does_not_stop_the_others(photos: Path, tmp_path: Path) -> None:
    (photos / "1.png").write_bytes(b"nothing")
    out = tmp_path / "out"
    result = run_cli("degrade", photos, "-o", out, "--kind", "shake", "--json")
    assert result.exit_code == 3 and result.stderr.count("error: ") == 1
    assert "1.png" in result.stderr
    found = json.loads(result.stdout)
    assert found["count"] == 2 and [one["name"] for one in found["failed"]] == ["1.png"]
    assert {path.name for path in out.iterdir()} == {"0.png", "2.png"}
