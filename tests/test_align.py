"""A result is moved to where it agrees best with its truth, and scored there."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from diffir_cli.evaluation.align import best_shift, moved
from diffir_cli.evaluation.kinds import ProtocolName
from diffir_cli.evaluation.protocol import PROTOCOLS
from diffir_cli.imaging import read_picture
from tests.conftest import run_cli


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -5.0), (-1.25, 0.5), (8.0, 8.0)])
def test_a_result_that_lies_beside_its_truth_is_found_there(shift: tuple[float, float]) -> None:
    truth = read_picture(Path(__file__).parent / "data" / "lighthouse-truth.webp").rgb[:200, :160]
    beside = moved(truth, (-shift[0], -shift[1]))
    assert best_shift(beside, truth, 8) == shift
    assert PROTOCOLS[ProtocolName.DEBLUR].measure(truth, truth)["psnr"] == math.inf
    aligned = replace(PROTOCOLS[ProtocolName.DEBLUR], align=8).measure(beside, truth)
    plain = PROTOCOLS[ProtocolName.DEBLUR].measure(beside, truth)
    if shift == (0.0, 0.0):
        assert aligned == plain
    else:
        assert aligned["psnr"] > max(38.0, plain["psnr"] + 10) and aligned["ssim"] > 0.98


def test_noise_is_not_taken_for_a_shift() -> None:
    path = Path(__file__).parent / "data" / "lighthouse-truth.webp"
    sharp = read_picture(path).rgb[300:500, 160:320]
    truth = cv2.GaussianBlur(sharp, (0, 0), 1.5).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 10, truth.shape)
    noisy = np.clip(truth + noise, 0, 255).astype(np.uint8)
    assert best_shift(noisy, truth, 8) == (0, 0)


def test_a_shift_of_what_lies_around_holes_is_refused(tmp_path: Path) -> None:
    arguments = "evaluate", "--task", "inpaint", "--gt", tmp_path, "--align", "4"
    result = run_cli(*arguments)
    assert (
        result.exit_code == 2
        and "--align cannot be used with the protocol inpaint" in result.stderr
    )


def test_scores_at_the_best_shift_say_so_and_never_move_further(tmp_path: Path) -> None:
    path = Path(__file__).parent / "data" / "lighthouse-truth.webp"
    truth = read_picture(path).rgb[300:364, 160:232]
    for folder, image in (("gt", truth), ("out", np.roll(truth, (3, -2), (0, 1)))):
        (tmp_path / folder).mkdir()
        Image.fromarray(image).save(tmp_path / folder / "a.png")
    arguments = "evaluate", tmp_path / "out", tmp_path / "gt", "--protocol", "deblur", "--json"
    plain, near, far = (
        json.loads(run_cli(*arguments, *extra).stdout)
        for extra in ((), ("--align", "2"), ("--align", "3"))
    )
    assert [found["align"] for found in (plain, near, far)] == [0, 2, 3]
    assert far["methods"]["results"]["images"][0]["psnr"] is None, "equal within the edges"
    assert near["methods"]["results"]["mean"]["psnr"] < 30
    reporter = run_cli(*arguments[:-1], "--align", "3").stdout
    assert "at the best shift of up to 3 pixels" in reporter
    for folder in ("out", "gt"):
        Image.fromarray(truth[:40]).save(tmp_path / folder / "a.png")
    refused = run_cli(*arguments, "--align", "15")
    assert refused.exit_code == 3 and "give a smaller --align" in refused.stderr
