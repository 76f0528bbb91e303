"""`diffir evaluate` pairs by name, measures what it says, and leaves nothing unsaid."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from diffir_cli.checkpoint import save_weights
from diffir_cli.config import ModelConfig, Tail
from diffir_cli.errors import InputError
from diffir_cli.evaluation.metrics import luma, psnr, shave
from diffir_cli.evaluation.pairs import match_folders
from diffir_cli.imaging import read_picture
from diffir_cli.imaging.bicubic import enlarge_bicubic, reduce_bicubic
from diffir_cli.networks import DiffIRS2
from tests.conftest import TINY, evaluated, noise_image, run_cli


def _folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for number, name in enumerate(names):
        Image.fromarray(noise_image(24, 24, seed=number)).save(path / name)
    return path


def test_files_are_paired_by_name_and_never_by_order(tmp_path: Path) -> None:
    gt = _folder(tmp_path / "gt", "img1.png", "img10.png", "img2.png", "baby.bmp", "only.png")
    results = _folder(
        tmp_path / "results",
        "img2.jpg",
        "img10_out.png",
        "img1x4.png",
        "baby-restored.png",
        "img3.png",
    )
    matched = match_folders(results, gt)
    assert {(first.name, second.name) for first, second in matched.pairs} == {
        ("img1x4.png", "img1.png"),
        ("img10_out.png", "img10.png"),
        ("img2.jpg", "img2.png"),
        ("baby-restored.png", "baby.bmp"),
    }
    assert {path.name for path in matched.unmatched} == {"img3.png", "only.png"}


def test_exact_names_go_first_and_a_number_behind_a_name_is_another_picture(
    tmp_path: Path,
) -> None:
    gt = _folder(tmp_path / "gt", "holiday.png", "baby.png")
    matched = match_folders(_folder(tmp_path / "lq", "holiday_2.png", "baby.png", "baby_x.png"), gt)
    assert [(first.name, second.name) for first, second in matched.pairs] == [
        ("baby.png", "baby.png")
    ]
    assert {path.name for path in matched.unmatched} == {
        "holiday_2.png",
        "baby_x.png",
        "holiday.png",
    }
    assert not matched.alike


def test_an_accent_is_the_same_in_both_of_its_spellings(tmp_path: Path) -> None:
    gt = _folder(tmp_path / "gt", "caf\u00e9.png")
    matched = match_folders(_folder(tmp_path / "lq", "cafe\u0301.png"), gt)
    assert len(matched.pairs) == 1


def test_twins_whose_names_only_begin_alike_are_told(tmp_path: Path) -> None:
    gt = _folder(tmp_path / "gt", "a.png")
    result = run_cli("evaluate", _folder(tmp_path / "out", "a_sr.png"), gt)
    assert result.exit_code == 0 and "begin alike: a_sr.png of a.png" in result.stderr


def test_a_bad_pair_is_told_and_the_others_are_measured(tmp_path: Path) -> None:
    gt = _folder(tmp_path / "gt", "a.png", "b.png", "c.png", "d.png")
    results = _folder(tmp_path / "results", "a.png", "b.png", "c.png", "d.png")
    (results / "a.png").write_bytes((results / "a.png").read_bytes()[:200])
    Image.fromarray(noise_image(9, 24, seed=1)).save(results / "c.png")
    report = tmp_path / "scores.csv"
    result = run_cli("evaluate", results, gt, "--protocol", "deblur", "--json", "--csv", report)
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    assert [image["name"] for image in found["methods"]["results"]["images"]] == ["b.png", "d.png"]
    assert [failure["name"] for failure in found["failed"]] == ["a.png", "c.png"]
    assert "truth of 24×9 pixels, and that has 24×24" in found["failed"][1]["error"]
    assert result.stderr.count("error: ") == 2 and found["task"] is None
    page = tmp_path / "scores.md"
    run_cli("evaluate", results, gt, "--protocol", "deblur", "--markdown", page)
    assert "Not measured: a.png, c.png" in page.read_text(encoding="utf-8")
    for name in ("b.png", "d.png"):
        (results / name).write_bytes(b"nothing")
    result = run_cli("evaluate", results, gt, "--protocol", "deblur")
    assert result.exit_code == 3 and "b.png, c.png, d.png" in result.stderr
    with report.open(newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["b.png", "d.png"]


def test_a_table_into_a_pipe_is_never_cut(photos: Path, s2_file: Path, tmp_path: Path) -> None:
    longer = tmp_path / "gt"
    longer.mkdir()
    for number, path in enumerate(sorted(photos.iterdir())):
        path.rename(longer / f"a-name-of-a-photo-that-goes-on-and-on-for-very-long-{number}.png")
    measured = ("evaluate", "--gt", longer, "-w", s2_file)
    table = run_cli(*measured).stdout
    assert "…" not in table
    scores = json.loads(run_cli(*measured, "--json").stdout)["methods"]["bicubic"]["images"]
    lines = table.splitlines()
    for score in scores:
        (line,) = (text for text in lines if score["name"] in text and "lowest" not in text)
        assert f"{score['psnr']:.2f}" in line and f"{score['ssim']:.4f}" in line


def test_weights_named_like_a_baseline_are_measured_all_the_same(
    photos: Path, s2_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bicubic").write_bytes(s2_file.read_bytes())
    monkeypatch.chdir(tmp_path)
    found = evaluated("--gt", photos, "-w", tmp_path / "bicubic")
    assert len(found["methods"]) == 2 and "bicubic" in found["methods"]


def test_reports_that_cannot_be_written_are_refused_before_anything_is_measured(
    photos: Path, tmp_path: Path
) -> None:
    same = tmp_path / "report"
    result = run_cli("evaluate", "--gt", photos, "--csv", same, "--markdown", same)
    assert result.exit_code == 2 and "different files" in result.stderr
    result = run_cli("evaluate", "--gt", photos, "--csv", tmp_path / "none" / "a.csv")
    assert result.exit_code == 3 and not result.stdout


def test_a_name_that_is_claimed_twice_is_refused(tmp_path: Path) -> None:
    gt = _folder(tmp_path / "gt", "a.png")
    with pytest.raises(InputError, match="both belong to"):
        match_folders(_folder(tmp_path / "one", "a_x.png", "a_y.png"), gt)
    with pytest.raises(InputError, match="same name up to the ending"):
        match_folders(_folder(tmp_path / "two", "a.png", "a.bmp"), gt)
    with pytest.raises(InputError, match="no file of"):
        match_folders(_folder(tmp_path / "three", "b.png"), gt)


def test_finished_results_are_measured_and_unmatched_files_named(tmp_path: Path) -> None:
    gt = _folder(tmp_path / "gt", "a.png", "b.png", "c.png")
    results = _folder(tmp_path / "results", "a.png", "b.png", "d.png")
    noisy = noise_image(24, 24, seed=1).astype(int) + 3
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(results / "b.png")
    result = run_cli("evaluate", results, gt, "--protocol", "deblur", "--json")
    found = json.loads(result.stdout)
    first, second = found["methods"]["results"]["images"]
    assert first["psnr"] is None and first["ssim"] == pytest.approx(1)
    expected = psnr(read_picture(results / "b.png").rgb, read_picture(gt / "b.png").rgb)
    assert second["psnr"] == pytest.approx(expected)
    assert found["methods"]["results"]["mean"]["psnr"] is None
    assert {Path(path).name for path in found["unmatched"]} == {"c.png", "d.png"}
    for name in ("c.png", "d.png"):
        assert f"{name} has no twin" in result.stderr


def test_evaluate_measures_beside_bicubic(photos: Path, s2_file: Path, s1_file: Path) -> None:
    for weights in (s2_file, s1_file):
        found = evaluated("--gt", photos, "-w", weights)
        assert found["protocol"] == "sr" and len(found["weights"]["sha256"]) == 64
        scores = found["methods"]["bicubic"]["images"]
        assert [score["name"] for score in scores] == ["0.png", "1.png", "2.png"]
        mean = found["methods"]["bicubic"]["mean"]["psnr"]
        assert mean == pytest.approx(np.mean([score["psnr"] for score in scores]))
        gt = read_picture(photos / "0.png").rgb
        back = enlarge_bicubic(reduce_bicubic(gt, 4), 4)
        expected = psnr(luma(shave(back, 4)), luma(shave(gt, 4)))
        assert scores[0]["psnr"] == pytest.approx(expected)
        assert weights.name in found["methods"]
    table = run_cli("evaluate", "--gt", photos, "-w", s2_file).stdout
    assert "mean of 3" in table and "deviation" in table and "lowest PSNR" in table


def test_the_engine_and_tiles_are_the_users_choice(photos: Path, s2_file: Path) -> None:
    def scores(*arguments: object) -> list[float]:
        found = evaluated("--gt", photos, "-w", s2_file, *arguments)
        assert found["engine"] == ("reference" if "reference" in arguments else "streaming")
        assert set(found["tiles"].values()) == ({32} if 32 in arguments else set())
        return [score["psnr"] for score in found["methods"][s2_file.name]["images"]]

    whole = scores("--tile", "off")
    assert scores("--engine", "reference") == pytest.approx(whole, abs=0.01)
    # Attention sees a tile and not the picture.
    tiled = scores("--tile", 32, "--tile-overlap", 8)
    assert tiled != pytest.approx(whole, abs=1e-6) and tiled == pytest.approx(whole, abs=3)


def test_the_scale_chooses_among_the_weights_of_a_task(photos: Path) -> None:
    found = evaluated("--gt", photos, "--scale", 4)
    assert found["weights"]["name"] == "sr-x4-lite"
    refused = run_cli("evaluate", "--gt", photos, "--scale", 2)
    assert refused.exit_code == 4 and "Traceback" not in refused.output


def test_given_twins_are_restored_by_their_names(
    photos: Path, s2_file: Path, tmp_path: Path
) -> None:
    assert run_cli("degrade", photos, "-o", tmp_path / "lq", "--kind", "bicubic").exit_code == 0
    (tmp_path / "lq" / "0.png").rename(tmp_path / "lq" / "0x4.png")
    made = evaluated("--gt", photos, "-w", s2_file)
    given = evaluated("--gt", photos, "--lq", tmp_path / "lq", "-w", s2_file)
    assert given == made


def test_the_truth_may_be_a_little_larger_than_its_twin_but_no_other_picture(
    photos: Path, s2_file: Path, tmp_path: Path
) -> None:
    odd = Image.open(photos / "0.png").crop((0, 0, 191, 158))
    for path in photos.iterdir():
        path.unlink()
    odd.save(photos / "0.png")
    assert run_cli("degrade", photos, "-o", tmp_path / "lq", "--kind", "bicubic").exit_code == 0
    assert Image.open(tmp_path / "lq" / "0.png").size == (47, 39)
    given = evaluated("--gt", photos, "--lq", tmp_path / "lq", "-w", s2_file)
    assert given["methods"] == evaluated("--gt", photos, "-w", s2_file)["methods"]
    Image.fromarray(noise_image(50, 50)).save(tmp_path / "lq" / "0.png")
    result = run_cli("evaluate", "--gt", photos, "--lq", tmp_path / "lq", "-w", s2_file)
    assert result.exit_code == 3 and "does not fit" in result.stderr


@pytest.fixture
def deblur_file(tmp_path: Path) -> Path:
    config = ModelConfig.from_dict({**TINY.to_dict(), "scale": 1, "tail": Tail.CONV.value})
    save_weights(tmp_path / "deblur.safetensors", DiffIRS2(config), {})
    return tmp_path / "deblur.safetensors"


def test_deblurring_is_measured_beside_the_blurred_image_itself(
    photos: Path, deblur_file: Path, tmp_path: Path
) -> None:
    lq = tmp_path / "lq"
    assert run_cli("degrade", photos, "-o", lq, "--kind", "shake").exit_code == 0
    found = evaluated("--task", "deblur", "--gt", photos, "--lq", lq, "-w", deblur_file)
    expected = psnr(read_picture(lq / "1.png").rgb, read_picture(photos / "1.png").rgb)
    assert found["methods"]["identity"]["images"][1]["psnr"] == pytest.approx(expected)
    result = run_cli("evaluate", "--task", "deblur", "--gt", photos, "-w", deblur_file)
    assert result.exit_code == 3 and "--kind shake" in result.stderr


def test_inpainting_is_measured_in_the_holes_beside_opencv(
    photos: Path, inpaint_file: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    assert run_cli("degrade", photos, "-o", masks, "--kind", "mask-narrow").exit_code == 0
    arguments = ("--task", "inpaint", "--gt", photos, "-w", inpaint_file)
    found = evaluated(*arguments, "--mask", masks)
    gt = read_picture(photos / "2.png").rgb
    holes = read_picture(masks / "2.png").rgb[:, :, 0]
    filled = cv2.inpaint(np.where(holes[:, :, None] > 0, 0, gt), holes, 3, cv2.INPAINT_TELEA)
    expected = psnr(np.asarray(filled)[holes > 0], gt[holes > 0])
    assert found["methods"]["telea"]["images"][2]["psnr"] == pytest.approx(expected)
    assert set(found["methods"]) == {"inpaint.safetensors", "telea", "ns"}
    result = run_cli("evaluate", *arguments)
    assert result.exit_code == 3 and "masks are needed" in result.stderr


def test_baselines_are_chosen_and_senseless_ones_refused(photos: Path, s2_file: Path) -> None:
    found = evaluated(
        "--gt", photos, "-w", s2_file, "--baseline", "lanczos", "--baseline", "bicubic"
    )
    assert list(found["methods"]) == [s2_file.name, "lanczos", "bicubic"]
    alone = evaluated("--gt", photos, "-w", s2_file, "--baseline", "none")
    assert list(alone["methods"]) == [s2_file.name]
    for kind in ("identity", "telea"):
        result = run_cli("evaluate", "--gt", photos, "-w", s2_file, "--baseline", kind)
        assert result.exit_code == 3 and f"the baseline {kind}" in result.stderr


def test_reports_say_the_same_as_the_json(photos: Path, s2_file: Path, tmp_path: Path) -> None:
    table, text = tmp_path / "scores.csv", tmp_path / "scores.md"
    found = evaluated("--gt", photos, "-w", s2_file, "--csv", table, "--markdown", text)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row in rows:
        images = found["methods"][row["method"]]["images"]
        (same,) = (image for image in images if image["name"] == row["image"])
        assert (float(row["psnr"]), float(row["ssim"])) == (same["psnr"], same["ssim"])
    mean = found["methods"]["bicubic"]["mean"]
    assert f"| {mean['psnr']:.2f} | {mean['ssim']:.4f} |" in text.read_text()
    again = run_cli("evaluate", "--gt", photos, "-w", s2_file, "--csv", table)
    assert again.exit_code == 3 and "exists already" in again.stderr


def test_evaluate_refuses_what_it_cannot_measure(photos: Path, s2_file: Path) -> None:
    Image.fromarray(noise_image(16, 16)).save(photos / "small.png")
    result = run_cli("evaluate", "--gt", photos, "-w", s2_file)
    assert result.exit_code == 3 and "too small to be measured" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "give RESULTS and GT"),
        (["{photos}"], "needs its truth"),
        (["{photos}", "{photos}", "--baseline", "bicubic"], "--baseline has no use"),
        (["{photos}", "{photos}", "--tile", "64"], "--tile has no use"),
        (["{photos}", "{photos}", "--engine", "reference"], "--engine has no use"),
        (["--gt", "{photos}", "--tile", "8"], "--tile"),
        (["--gt", "{photos}", "--html", "no/such/x.html"], "no such folder"),
        (["{photos}", "{photos}", "--csv", os.devnull, "--overwrite"], "device"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], text: str, photos: Path
) -> None:
    result = run_cli("evaluate", *(argument.format(photos=photos) for argument in arguments))
    assert result.exit_code in (2, 3) and text in result.stderr
    assert "Traceback" not in result.output


def test_evaluate_writes_no_infinity_into_json(photos: Path, s2_file: Path) -> None:
    for path in photos.iterdir():
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(path)
    result = run_cli("evaluate", "--gt", photos, "-w", s2_file, "--json")
    assert result.exit_code == 0, result.output
    assert "Infinity" not in result.stdout and "NaN" not in result.stdout
    assert json.loads(result.stdout)["methods"]["bicubic"]["images"][0]["psnr"] is None
    assert not math.isnan(json.loads(result.stdout)["methods"][s2_file.name]["std"]["psnr"])
