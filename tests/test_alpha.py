"""Transparency, and how results are coded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diffir_cli.imaging import Picture, read_picture, write_picture
from diffir_cli.models.diffir.networks import DiffIRS2
from diffir_cli.options import AlphaMode
from diffir_cli.runtime.pictures import bleed, restore_picture
from tests.conftest import noise_image, run_cli, succeeded
from tests.runner_helpers import runner_of


def _half_clear(dtype: type = np.uint8) -> NDArray[Any]:
    alpha: NDArray[Any] = np.full((16, 16), np.iinfo(dtype).max, dtype)
    alpha[:, 8:] = 0
    return alpha


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_spread_under_what_is_transparent_and_nowhere_else(dtype: type) -> None:
    rgb: NDArray[Any] = np.zeros((16, 16, 3), dtype)
    rgb[:, :8] = 200
    rgb[:, 8:] = [255, 0, 0]
    spread = bleed(rgb, _half_clear(dtype))
    assert spread.dtype == dtype
    np.testing.assert_array_equal(spread[:, :8], rgb[:, :8])
    assert np.abs(spread[:, 8:].astype(int) - 200).max() <= 1


@pytest.mark.parametrize("value", [0, 255])
def test_nothing_spreads_where_all_or_nothing_is_transparent(value: int) -> None:
    rgb = noise_image(8, 8)
    assert bleed(rgb, np.full((8, 8), value, np.uint8)) is rgb


def test_what_lies_hidden_has_no_say_in_what_is_seen(s2: DiffIRS2) -> None:
    rgb, alpha = noise_image(16, 16), _half_clear()
    other = rgb.copy()
    other[:, 8:] = 255 - other[:, 8:]
    restorer = runner_of(s2, "cpu")
    one, two = (
        restore_picture(restorer, Picture(pixels, alpha)).picture.rgb for pixels in (rgb, other)
    )
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_stays_grey_whatever_lies_hidden_or_is_a_level_off(dtype: type, s2: DiffIRS2) -> None:
    step = 257 if dtype is np.uint16 else 1
    rgb = np.repeat(noise_image(16, 16)[:, :, :1] // 2, 3, axis=2).astype(dtype) * dtype(step)
    rgb[::3, ::2, 2] += dtype(step)
    hidden = rgb.copy()
    hidden[:, 8:] = [255, 0, 0]
    runner = runner_of(s2, "cpu")
    for picture in (Picture(rgb), Picture(hidden, _half_clear(dtype))):
        found = restore_picture(runner, picture).picture.rgb
        assert (found == found[:, :, :1]).all()
    hidden[3, 3] = [dtype(200 * step), 0, 0]
    spot = restore_picture(runner, Picture(hidden, _half_clear(dtype))).picture.rgb
    assert (spot != spot[:, :, :1]).any()


def test_alpha_is_resized_or_restored_or_dropped_as_asked(s2: DiffIRS2) -> None:
    alpha = noise_image(16, 16, 1)
    picture = Picture(noise_image(16, 16), alpha)
    restorer = runner_of(s2, "cpu")
    resized, restored, dropped = (
        restore_picture(restorer, picture, alpha=mode).picture.alpha
        for mode in (AlphaMode.LANCZOS, AlphaMode.NETWORK, AlphaMode.DROP)
    )
    assert dropped is None and resized is not None and restored is not None
    expected = restorer.restore(np.repeat(alpha[:, :, None], 3, axis=2)).mean(axis=2)
    np.testing.assert_array_equal(restored, np.rint(expected))
    assert resized.shape == restored.shape == (64, 64) and (resized != restored).any()


def test_strength_applies_to_alpha_that_goes_through_the_network(s2: DiffIRS2) -> None:
    picture = Picture(noise_image(16, 16), noise_image(16, 16, 1))
    runner = runner_of(s2, "cpu")
    resized, through_network = (
        restore_picture(runner, picture, alpha=mode, strength=0.0).picture.alpha
        for mode in (AlphaMode.LANCZOS, AlphaMode.NETWORK)
    )
    assert resized is not None and through_network is not None
    assert np.abs(resized.astype(int) - through_network).max() <= 1


def test_a_constant_alpha_stays_constant_through_the_network(s2: DiffIRS2) -> None:
    picture = Picture(noise_image(8, 8), np.full((8, 8), 77, np.uint8))
    found = restore_picture(runner_of(s2, "cpu"), picture, alpha=AlphaMode.NETWORK).picture.alpha
    assert found is not None and set(found.flat) == {77}


def test_transparency_can_be_dropped_for_a_format_without_it(restore: Any, tmp_path: Path) -> None:
    Image.fromarray(noise_image(8, 8, 4)).save(tmp_path / "in.png")
    out = tmp_path / "out.jpg"
    command = (tmp_path / "in.png", out)
    refused = restore(*command)
    assert refused.exit_code == 3 and "transparency" in refused.stderr
    assert restore(*command, "--alpha", "drop").exit_code == 0 and out.exists()


def test_what_is_transparent_can_be_what_is_filled(inpaint_file: Path, tmp_path: Path) -> None:
    rgba = noise_image(24, 24, 4)
    rgba[:, :, 3] = 255
    rgba[4:9, 5:12, 3] = [[0]]
    Image.fromarray(rgba).save(tmp_path / "in.png")
    out = tmp_path / "out.png"
    command = ("restore", tmp_path / "in.png", "--task", "inpaint", "-w", inpaint_file, "-o", out)
    assert run_cli(*command, "--mask-from-alpha").exit_code == 0
    back = read_picture(out)
    assert back.alpha is None
    kept = rgba[:, :, 3] == 255
    np.testing.assert_array_equal(back.rgb[kept], rgba[:, :, :3][kept])
    assert (back.rgb[~kept] != rgba[:, :, :3][~kept]).any()
    Image.fromarray(rgba[:, :, :3]).save(tmp_path / "in.png")
    opaque = run_cli(*command, "--mask-from-alpha", "--overwrite")
    assert opaque.exit_code == 3 and "no transparency" in opaque.stderr


@pytest.mark.parametrize("ending", [".jpg", ".webp"])
def test_quality_reaches_the_file(ending: str, restore: Any, tmp_path: Path) -> None:
    Image.fromarray(noise_image(16, 16)).save(tmp_path / "in.png")
    sizes: list[int] = []
    for more in (["--quality", 20], ["--quality", 95], []):
        out = tmp_path / f"{len(sizes)}{ending}"
        assert restore(tmp_path / "in.png", out, *more).exit_code == 0
        sizes.append(out.stat().st_size)
    assert sizes[0] < sizes[1] == sizes[2]


def test_a_lossless_webp_holds_the_pixels_of_the_png(s2_file: Path, tmp_path: Path) -> None:
    Image.fromarray(noise_image(16, 16, 4)).save(tmp_path / "in.png")
    command = ("restore", tmp_path / "in.png", "-w", s2_file, "-o")
    assert run_cli(*command, tmp_path / "out.webp", "--lossless").exit_code == 0
    assert run_cli(*command, tmp_path / "out.png").exit_code == 0
    with Image.open(tmp_path / "out.webp") as one, Image.open(tmp_path / "out.png") as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize(("factor", "size"), [("2", (24, 18)), ("2.5", (30, 22)), ("0.5", (6, 4))])
def test_a_result_has_the_size_that_is_asked_for(
    factor: str, size: tuple[int, int], restore: Any, tmp_path: Path
) -> None:
    Image.fromarray(noise_image(9, 12, 4)).save(tmp_path / "in.png")
    out = tmp_path / "out.png"
    command = (tmp_path / "in.png", out, "--outscale", factor)
    assert restore(*command).exit_code == 0
    with Image.open(out) as image:
        assert (image.size, image.mode) == (size, "RGBA")


def test_a_flat_picture_stays_flat_in_another_size() -> None:
    flat = Picture(np.full((8, 8, 3), 60_001, np.uint16)).resized((13, 5))
    assert flat.size == (13, 5) and set(flat.rgb.flat) == {60_001}


def test_input_and_result_are_put_side_by_side(restore: Any, tmp_path: Path) -> None:
    Image.fromarray(noise_image(9, 12)).save(tmp_path / "in.png")
    out, both = tmp_path / "out.png", tmp_path / "both.png"
    command = (tmp_path / "in.png", out, "--compare")
    assert restore(*command, both).exit_code == 0
    found = read_picture(both).rgb
    np.testing.assert_array_equal(found[:, 48:], read_picture(out).rgb)
    enlarged = read_picture(tmp_path / "in.png").resized((48, 36)).rgb
    np.testing.assert_array_equal(found[:, :48], enlarged)
    same = restore(*command, out, "--overwrite")
    assert same.exit_code == 2 and "a file of its own" in same.stderr


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("command", ["restore", "batch"])
def test_a_hole_that_a_mask_fills_can_be_seen(
    command: str, deep: bool, inpaint_file: Path, tmp_path: Path
) -> None:
    white = 65_535 if deep else 255
    picture = Picture(
        np.full((12, 12, 3), white // 2, np.uint16 if deep else np.uint8),
        np.full((12, 12), white // 3, np.uint16 if deep else np.uint8),
    )
    assert picture.alpha is not None
    picture.alpha[2:6, 2:6] = 0
    write_picture(picture, tmp_path / "in.png")
    mask = np.zeros((12, 12), np.uint8)
    mask[1:5, 2:6] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    target = tmp_path / "out" / "in.png"
    target.parent.mkdir()
    where = ("-o", target if command == "restore" else target.parent)
    arguments = ("--task", "inpaint", "-w", inpaint_file, "--mask", tmp_path / "mask.png")
    succeeded(run_cli(command, tmp_path / "in.png", *where, *arguments))
    alpha = read_picture(target, deep).alpha
    assert alpha is not None
    np.testing.assert_array_equal(alpha, np.where(mask > 0, white, picture.alpha))
