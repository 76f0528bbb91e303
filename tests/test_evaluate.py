"""`diffir evaluate` pairs by name, measures what it says, and leaves nothing unsaid."""

from __future__ import annotations

import copy
import csv
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from diffir_cli.errors import DiffIRError
from diffir_cli.evaluation.baselines import USUAL
from diffir_cli.evaluation.metrics import luma, psnr, shave
from diffir_cli.imaging import read_picture
from diffir_cli.imaging.bicubic import enlarge_bicubic, reduce_bicubic
from diffir_cli.models.diffir.checkpoint import save_weights
from diffir_cli.models.diffir.config import ModelConfig, Tail
from diffir_cli.models.diffir.networks import DiffIRS2
from diffir_cli.options import Precision, Task
from tests.conftest import TINY, evaluated, noise_folder, noise_image, run_cli, succeeded
from tests.runner_helpers import runner_of


def test_a_bad_pair_is_told_and_the_others_are_measured(tmp_path: Path) -> None:
    gt = noise_folder(tmp_path / "gt", "a.png", "b.png", "c.png", "d.png")
    results = noise_folder(tmp_path / "results", "a.png", "b.png", "c.png", "d.png")
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


def test_finished_results_are_measured_and_unmatched_files_named(tmp_path: Path) -> None:
    gt = noise_folder(tmp_path / "gt", "a.png", "b.png", "c.png")
    results = noise_folder(tmp_path / "results", "a.png", "b.png", "d.png")
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
        assert f"{name} has no matching file" in result.stderr


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


@pytest.mark.numerics
def test_what_is_measured_is_what_the_network_restores_from_the_seed(
    photos: Path, s2: DiffIRS2, s2_file: Path
) -> None:
    def score(*arguments: object) -> float:
        found = evaluated("--gt", photos, "-w", s2_file, *arguments)
        return float(found["methods"][s2_file.name]["images"][1]["psnr"])

    gt = read_picture(photos / "1.png").rgb
    restorer = runner_of(s2, "cpu", Precision.FP32)
    for seed in (0, 7):
        hq = restorer.restore(reduce_bicubic(gt, 4), seed)
        expected = psnr(luma(shave(hq, 4)), luma(shave(gt, 4)))
        assert score("--seed", seed) == pytest.approx(expected, abs=1e-3)
    assert score("--seed", 7) != score()


@pytest.mark.parametrize(
    ("task", "protocol"), [("sr", "inpaint"), ("deblur", "inpaint"), ("inpaint", "sr")]
)
def test_any_protocol_goes_with_any_task_if_the_masks_it_needs_are_there(
    task: str,
    protocol: str,
    photos: Path,
    s2_file: Path,
    deblur_file: Path,
    inpaint_file: Path,
    tmp_path: Path,
) -> None:
    masks, page = tmp_path / "masks", tmp_path / "page.html"
    assert run_cli("degrade", photos, "-o", masks, "--kind", "mask-wide").exit_code == 0
    weights = {"sr": s2_file, "deblur": deblur_file, "inpaint": inpaint_file}[task]
    arguments = ["--task", task, "--gt", photos, "-w", weights, "--protocol", protocol]
    if task == "deblur":
        arguments += ["--lq", photos]
    found = evaluated(*arguments, "--mask", masks, "--report", page)
    assert found["protocol"] == protocol and len(found["methods"][weights.name]["images"]) == 3
    refused = run_cli("evaluate", *arguments)
    assert refused.exit_code == 2 and "--mask is needed" in refused.stderr


def test_a_mask_of_the_whole_truth_is_cut_as_the_truth_is(
    photos: Path, s2_file: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    for path in photos.iterdir():
        Image.open(path).crop((0, 0, 191, 158)).save(path)
    assert run_cli("degrade", photos, "-o", masks, "--kind", "mask-wide").exit_code == 0
    arguments = ("--gt", photos, "-w", s2_file, "--protocol", "inpaint", "--mask", masks)
    whole = evaluated(*arguments)
    for path in masks.iterdir():
        Image.open(path).crop((0, 0, 188, 156)).save(path)
    assert evaluated(*arguments) == whole


@pytest.mark.numerics
def test_weights_that_give_no_numbers_are_told_as_the_weights_fault(
    photos: Path, s2: DiffIRS2, tmp_path: Path
) -> None:
    spoilt = copy.deepcopy(s2)
    torch.nn.init.constant_(next(spoilt.dirformer.parameters()), 3e38)
    save_weights(tmp_path / "spoilt.safetensors", spoilt, {})
    result = run_cli("evaluate", "--gt", photos, "-w", tmp_path / "spoilt.safetensors")
    assert result.exit_code == 4 and "Traceback" not in result.output


@pytest.mark.numerics
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


@pytest.mark.numerics
def test_given_twins_are_restored_by_their_names(
    photos: Path, s2_file: Path, tmp_path: Path
) -> None:
    assert run_cli("degrade", photos, "-o", tmp_path / "lq", "--kind", "bicubic").exit_code == 0
    (tmp_path / "lq" / "0.png").rename(tmp_path / "lq" / "0x4.png")
    made = evaluated("--gt", photos, "-w", s2_file)
    given = evaluated("--gt", photos, "--lq", tmp_path / "lq", "-w", s2_file)
    assert given == made


@pytest.mark.numerics
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
    assert result.exit_code == 2 and "--kind shake" in result.stderr


def test_faces_are_measured_by_the_protocol_of_real_photos(photos: Path) -> None:
    assert evaluated(photos, photos, "--task", "face")["protocol"] == "realsr"


def test_every_task_has_its_usual_baselines() -> None:
    assert set(USUAL) == set(Task)


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


def test_baselines_are_chosen_and_senseless_ones_refused(photos: Path, s2_file: Path) -> None:
    found = evaluated(
        "--gt", photos, "-w", s2_file, "--baseline", "lanczos", "--baseline", "bicubic"
    )
    assert list(found["methods"]) == [s2_file.name, "lanczos", "bicubic"]
    alone = evaluated("--gt", photos, "-w", s2_file, "--baseline", "none")
    assert list(alone["methods"]) == [s2_file.name]
    for kind in ("identity", "telea"):
        result = run_cli("evaluate", "--gt", photos, "-w", s2_file, "--baseline", kind)
        assert result.exit_code == 2 and f"--baseline {kind}" in result.stderr


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
    assert again.exit_code == 3 and "already exists" in again.stderr


def test_evaluate_refuses_what_it_cannot_measure(photos: Path, s2_file: Path) -> None:
    Image.fromarray(noise_image(16, 16)).save(photos / "small.png")
    result = run_cli("evaluate", "--gt", photos, "-w", s2_file)
    assert result.exit_code == 3 and "too small to be measured" in result.stderr


def test_evaluate_writes_no_infinity_into_json(photos: Path, s2_file: Path) -> None:
    for path in photos.iterdir():
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(path)
    result = succeeded(run_cli("evaluate", "--gt", photos, "-w", s2_file, "--json"))
    assert "Infinity" not in result.stdout and "NaN" not in result.stdout
    assert json.loads(result.stdout)["methods"]["bicubic"]["images"][0]["psnr"] is None
    assert not math.isnan(json.loads(result.stdout)["methods"][s2_file.name]["std"]["psnr"])


def test_reports_are_written_even_where_stdout_takes_nothing(
    monkeypatch: pytest.MonkeyPatch, photos: Path, tmp_path: Path
) -> None:
    def full(_value: object) -> None:
        raise DiffIRError("stdout is full")

    monkeypatch.setattr("diffir_cli.cli.evaluate_console.print_json", full)
    table = tmp_path / "scores.csv"
    result = run_cli("evaluate", photos, photos, "--json", "--csv", table)
    assert result.exit_code == 1 and "stdout is full" in result.stderr
    assert len(table.read_text(encoding="utf-8").splitlines()) == 4
