"""Size and strength of a result: --size, --long-side, --strength; grey stays grey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffir_cli.api import Restorer
from diffir_cli.imaging import read_picture
from diffir_cli.imaging.picture import resize_lanczos
from diffir_cli.imaging.source import PictureOptions, result_size
from tests.conftest import noise_image, run_cli, succeeded


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, (160, 120)),
        ({"outscale": 1.5}, (60, 45)),
        ({"long_side": 100}, (100, 75)),
        ({"size": (100, 0)}, (100, 75)),
        ({"size": (0, 90)}, (120, 90)),
        ({"size": (100, 100)}, (100, 75)),
        ({"size": (1000, 30)}, (40, 30)),
    ],
)
def test_a_result_is_fitted_into_a_size_and_keeps_its_aspect(
    chosen: dict[str, object], expected: tuple[int, int]
) -> None:
    options = PictureOptions(**chosen)  # type: ignore[arg-type]
    assert result_size((40, 30), options, 4) == expected


def test_restore_and_batch_give_the_size_asked_for(
    s2_file: Path, restore: Any, tmp_path: Path
) -> None:
    source = tmp_path / "in.png"
    Image.fromarray(noise_image(30, 40, 4)).save(source)
    out = tmp_path / "out.png"
    succeeded(restore(source, out, "--size", "100x100"))
    with Image.open(out) as image:
        assert image.size == (100, 75) and image.mode == "RGBA"
    succeeded(run_cli("batch", source, "-o", tmp_path / "b", "-w", s2_file, "--long-side", 64))
    with Image.open(tmp_path / "b" / "in.png") as image:
        assert image.size == (64, 48)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((), "in_realsr_x4.png"),
        (("--outscale", "2"), "in_realsr_x2.png"),
        (("--long-side", "64"), "in_realsr.png"),
        (("--size", "64x"), "in_realsr.png"),
    ],
)
def test_the_name_of_a_result_tells_its_factor_where_it_has_one(
    arguments: tuple[str, ...], name: str, s2_file: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in.png"
    Image.fromarray(noise_image(16, 16)).save(source)
    succeeded(run_cli("restore", source, "-w", s2_file, *arguments))
    assert (tmp_path / name).is_file()


def test_strength_blends_the_result_with_the_resized_input_before_rounding(s2_file: Path) -> None:
    restorer = Restorer("realsr", str(s2_file), device="cpu", precision="fp32")
    lq = noise_image(12, 16).astype(np.float32) / np.float32(255)
    full, half, none = (restorer.restore(lq, strength=share) for share in (1.0, 0.5, 0.0))
    plain = resize_lanczos(lq, (48, 64)).clip(0, 1)
    np.testing.assert_allclose(none, plain, atol=1e-6)
    # What was clipped in either is not a mean of both.
    inside = (full > 0) & (full < 1) & (plain > 0) & (plain < 1)
    np.testing.assert_allclose(half[inside], ((full + plain) / 2)[inside], atol=0.02)
    with pytest.raises(ValueError, match="strength must be 0 to 1"):
        restorer.restore(lq, strength=1.5)


def test_outside_holes_strength_changes_nothing(inpaint_file: Path) -> None:
    restorer = Restorer("inpaint", str(inpaint_file), device="cpu")
    lq, mask = noise_image(16, 16), np.zeros((16, 16), bool)
    mask[4:8, 4:8] = True
    found = restorer.restore(lq, mask=mask, strength=0.3)
    assert np.array_equal(found[~mask], lq[~mask])


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "I;16"])
def test_a_picture_whose_channels_agree_stays_grey(mode: str, restore: Any, tmp_path: Path) -> None:
    grey = Image.fromarray(noise_image(12, 12)[:, :, 0])
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = grey.convert("RGBA" if mode == "RGBA" else mode)
    image.save(tmp_path / "in.png")
    succeeded(restore(tmp_path / "in.png", tmp_path / "out.png"))
    rgb = read_picture(tmp_path / "out.png", deep=True).rgb
    assert np.array_equal(rgb[:, :, 0], rgb[:, :, 1])
    assert np.array_equal(rgb[:, :, 0], rgb[:, :, 2])


def test_another_limit_of_memory_redoes_nothing(s2_file: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.png"
    Image.fromarray(noise_image(16, 16)).save(source)
    fixed = ("batch", source, "-o", tmp_path / "out", "-w", s2_file)
    assert run_cli(*fixed).exit_code == 0
    made = (tmp_path / "out" / "in.png").stat().st_mtime_ns
    succeeded(run_cli(*fixed, "--max-memory", "3G"))
    assert (tmp_path / "out" / "in.png").stat().st_mtime_ns == made
    succeeded(run_cli(*fixed, "--strength", 0.5))
    assert (tmp_path / "out" / "in.png").stat().st_mtime_ns != made
