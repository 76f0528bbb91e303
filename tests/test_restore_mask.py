"""Inpainting from the command line: a mask is needed, fits, and is kept to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffir_cli.imaging import read_mask, read_picture
from tests.conftest import run_cli, succeeded


def _mask(tmp_path: Path, width: int = 20, height: int = 12) -> Path:
    holes = np.zeros((height, width), np.uint8)
    holes[3:9, 5:15] = 255
    Image.fromarray(holes).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("dilate", [0, 2])
def test_outside_the_mask_the_picture_stays_to_the_bit(
    invert: bool, dilate: int, photo: Path, inpaint_file: Path, tmp_path: Path
) -> None:
    mask, out = _mask(tmp_path), tmp_path / "out.png"
    arguments = ["--mask", mask, "--mask-dilate", dilate, *(["--mask-invert"] if invert else [])]
    succeeded(
        run_cli("restore", photo, "--task", "inpaint", *arguments, "-w", inpaint_file, "-o", out)
    )
    before, after = read_picture(photo).rgb, read_picture(out).rgb
    holes = np.zeros((12, 20), bool)
    holes[3:9, 5:15] = True
    holes = ~holes if invert else holes
    if dilate:
        import cv2

        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
        holes = cv2.dilate(holes.astype(np.uint8), kernel) > 0
    np.testing.assert_array_equal(after[~holes], before[~holes])
    assert (after[holes] != before[holes]).mean() > 0.5


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("size", "but the picture has 20×12"),
        ("black", "marks nothing"),
        ("white", "marks the whole picture"),
        ("itself", "is the picture itself, not a mask of it"),
        ("endless link", "Too many levels of symbolic links"),
    ],
)
def test_a_wrong_mask_is_refused(
    case: str, message: str, photo: Path, inpaint_file: Path, tmp_path: Path
) -> None:
    mask = _mask(tmp_path, 19 if case == "size" else 20)
    if case in ("black", "white"):
        Image.new("L", (20, 12), 255 if case == "white" else 0).save(mask)
    if case in ("itself", "endless link"):
        mask = tmp_path / "link.png"
        mask.symlink_to(photo if case == "itself" else mask)
    out = tmp_path / "out.png"
    command = ("restore", photo, "--task", "inpaint", "--mask", mask, "-w", inpaint_file)
    result = run_cli(*command, "-o", out)
    assert result.exit_code == 3
    assert message in result.stderr and "hint: " in result.stderr
    assert not out.exists()


def test_a_mask_is_not_replaced_by_the_result(
    photo: Path, inpaint_file: Path, tmp_path: Path
) -> None:
    mask = _mask(tmp_path, 20)
    before = mask.read_bytes()
    command = ("restore", photo, "--task", "inpaint", "--mask", mask, "-w", inpaint_file)
    result = run_cli(*command, "-o", mask, "--overwrite")
    assert result.exit_code == 2 and "is named twice" in result.stderr
    assert mask.read_bytes() == before


@pytest.mark.parametrize(
    ("task", "weights", "message"),
    [
        ("deblur", "s2_file", "does not fit task 'deblur'"),
        ("inpaint", "s2_file", "does not fit task 'inpaint'"),
        ("sr", "inpaint_file", "does not fit task 'sr'"),
    ],
)
def test_weights_that_cannot_be_for_the_task_are_refused(
    task: str, weights: str, message: str, photo: Path, request: pytest.FixtureRequest
) -> None:
    file, out = request.getfixturevalue(weights), photo.with_name("out.png")
    mask = ["--mask", _mask(photo.parent, 20)] if task == "inpaint" else []
    result = run_cli("restore", photo, "--task", task, "-w", file, "-o", out, *mask)
    assert result.exit_code == 4
    assert message in result.stderr and "hint: use --task" in result.stderr
    assert not out.exists()


@pytest.mark.parametrize("invert", [False, True])
def test_a_mask_marks_what_is_lighter_than_middle_grey(invert: bool, tmp_path: Path) -> None:
    """The black of a JPEG is never quite black, nor its white quite white."""
    levels = np.array([[0, 2, 127, 128, 250, 255]], np.uint8)
    Image.fromarray(levels).save(tmp_path / "mask.png")
    holes = read_mask(tmp_path / "mask.png", (6, 1), invert)
    assert holes.tolist() == [[invert] * 3 + [not invert] * 3]


def test_what_is_transparent_in_a_mask_marks_nothing(
    photo: Path, inpaint_file: Path, tmp_path: Path
) -> None:
    strokes = np.full((12, 20, 4), 255, np.uint8)
    strokes[:, :, 3] = 0
    strokes[3:9, 5:15, 3] = 255
    Image.fromarray(strokes).save(tmp_path / "strokes.png")
    plain, out = tmp_path / "plain.png", tmp_path / "out.png"
    command = ("restore", photo, "--task", "inpaint", "-w", inpaint_file, "-o")
    assert run_cli(*command, plain, "--mask", _mask(tmp_path)).exit_code == 0
    assert run_cli(*command, out, "--mask", tmp_path / "strokes.png").exit_code == 0
    assert out.read_bytes() == plain.read_bytes()
