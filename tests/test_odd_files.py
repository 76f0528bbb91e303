"""Odd files: each comes out as it went in, or gives one clear error and leaves nothing behind."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffir_cli.imaging import read_picture
from tests.conftest import DATA

ODD = DATA / "odd"

REFUSED = {
    "pngsuite-xs1n0g01.png": "not a supported image",
    "pngsuite-xc1n0g08.png": "the PNG is damaged",
    "pngsuite-xdtn0g01.png": "damaged",
    "pillow-chunk_no_fctl.png": "damaged",
    "pillow-truncated_jpeg.jpg": "damaged",
}
"""Those that are broken or hostile, with the word that says so."""

KEPT: dict[str, tuple[str, tuple[int, int], bool]] = {
    # mode of the result, size before enlargement, 16 bits
    "pngsuite-basn4a16.png": ("LA", (32, 32), True),
    "pngsuite-basn6a16.png": ("RGBA", (32, 32), True),
    "pngsuite-basi2c16.png": ("RGB", (32, 32), True),
    "pngsuite-basn0g16.png": ("L", (32, 32), True),
    "pngsuite-basn4a08.png": ("LA", (32, 32), False),
    "pngsuite-tbbn3p08.png": ("RGBA", (32, 32), False),
    "pngsuite-tp1n3p08.png": ("RGBA", (32, 32), False),
    "pngsuite-s01n3p01.png": ("RGB", (1, 1), False),
    # Three texts of 2 MiB.
    "pillow-png_decompression_dos.png": ("L", (1, 1), False),
    "pillow-i_trns.png": ("LA", (64, 64), True),
    "pillow-rgb_trns.png": ("RGBA", (64, 64), False),
    "pillow-1_trns.png": ("LA", (64, 64), False),
    "pillow-tRNS_null_1x1.png": ("RGBA", (1, 1), False),
    "pillow-16bit.deflate.tif": ("L", (64, 64), True),
    "pillow-hopper_orientation_6.jpg": ("RGB", (128, 128), False),
    "pillow-hopper_orientation_8.jpg": ("RGB", (128, 128), False),
    "pillow-hopper_gray.jpg": ("L", (128, 128), False),
    "pillow-pil_sample_cmyk.jpg": ("RGB", (100, 100), False),
    "pillow-multipage.tiff": ("RGB", (10, 10), False),
    "pillow-dispose_bgnd_rgba.gif": ("RGBA", (100, 100), False),
    "pillow-icc_profile.png": ("RGBA", (57, 57), False),
    "pillow-invalid-exif.jpg": ("RGB", (200, 200), False),
}


def test_every_odd_file_has_its_place() -> None:
    assert {path.name for path in ODD.iterdir()} == {*REFUSED, *KEPT}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_broken_file_gives_one_clear_error_and_nothing_else(
    name: str, restore: Any, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = restore(ODD / name, tmp_path / "out.png")
    assert result.exit_code == 3 and REFUSED[name] in result.stderr
    assert result.stderr.count("error: ") == 1 and "Traceback" not in result.output
    assert not list(tmp_path.glob("out*")) and not list(tmp_path.glob(".diffir*"))


@pytest.mark.parametrize("name", sorted(KEPT))
def test_an_odd_file_comes_out_with_its_mode_depth_and_size(
    name: str, restore: Any, tmp_path: Path
) -> None:
    mode, (width, height), deep = KEPT[name]
    out = tmp_path / "out.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = restore(ODD / name, out)
    assert result.exit_code == 0, result.output
    back = read_picture(out, deep=True)
    assert back.size == (4 * width, 4 * height) and back.deep is deep
    assert back.grey is mode.startswith("L") and (back.alpha is not None) is ("A" in mode)


@pytest.mark.parametrize("turned", ["6", "8"])
def test_a_turned_photo_comes_out_upright(turned: str, restore: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    photo = ODD / f"pillow-hopper_orientation_{turned}.jpg"
    assert restore(photo, out).exit_code == 0
    with Image.open(photo) as image, Image.open(out) as restored:
        assert restored.getexif().get(0x0112, 1) == 1
        upright = image.transpose(
            {"6": Image.Transpose.ROTATE_270, "8": Image.Transpose.ROTATE_90}[turned]
        )
        small = np.asarray(restored.resize(upright.size, Image.Resampling.BOX), float)
        # The network has random weights and adds to the enlarged photo: sides agree, however rough.
        assert np.corrcoef(small.ravel(), np.asarray(upright, float).ravel())[0, 1] > 0.5


def test_a_truncated_photo_gives_what_there_is_where_that_is_allowed(
    restore: Any, tmp_path: Path
) -> None:
    photo, out = ODD / "pillow-truncated_jpeg.jpg", tmp_path / "out.png"
    command = (photo, out)
    assert restore(*command, "--allow-truncated").exit_code == 0
    assert read_picture(out).size == (400, 400)
    assert restore(*command, "--overwrite").exit_code == 3


def test_the_limit_of_pixels_can_be_lowered_and_raised(
    restore: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, out = ODD / "pillow-hopper_gray.jpg", tmp_path / "out.png"
    command = (photo, out)
    result = restore(*command, "--max-pixels", 128 * 128 - 1)
    assert result.exit_code == 3 and "128×128 pixels; the limit is 16,383" in result.stderr
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert restore(*command, "--max-pixels", 128 * 128).exit_code == 0
    assert Image.MAX_IMAGE_PIXELS == 100
