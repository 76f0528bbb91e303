"""Pictures of costs: latency over size, quality over cost."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result as Outcome

from diffir_cli.benchmark.plot import panels_of
from diffir_cli.benchmark.quality import check_alike, read_quality
from diffir_cli.benchmark.subject import Subject, subjects_of
from diffir_cli.errors import InputError
from tests.benchmark_helpers import REFERENCE, STREAMING, result_of
from tests.conftest import run_cli, succeeded


def _evaluated(path: Path, name: str, psnr: float | None, protocol: str = "sr") -> Path:
    methods = {
        name: {"images": [], "mean": {"psnr": psnr, "ssim": 0.9}},
        "bicubic": {"images": [], "mean": {"psnr": 28.43, "ssim": 0.8}},
    }
    about = {"task": "sr", "protocol": protocol, "weights": {"name": name, "sha256": "0"}}
    path.write_text(json.dumps({**about, "methods": methods}))
    return path


def test_quality_is_read_from_what_evaluate_prints(photos: Path, tmp_path: Path) -> None:
    outcome = run_cli("evaluate", "--gt", photos, "--json", "-d", "cpu")
    path = tmp_path / "scores.json"
    path.write_text(outcome.stdout)
    quality = read_quality(path)
    printed = json.loads(outcome.stdout)["methods"]["sr-x4-lite"]["mean"]["psnr"]
    assert (quality.weights, quality.protocol, quality.psnr) == ("sr-x4-lite", "sr", printed)
    assert set(quality.others) == {"bicubic"} and quality.pictures == ("0.png", "1.png", "2.png")
    assert round(quality.mult_adds / 1e9, 1) == 31.8


def test_quality_without_a_cost_or_a_figure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="whose cost is not known"):
        read_quality(_evaluated(tmp_path / "a.json", "mine.safetensors", 30))
    (known,) = subjects_of(["sr-x4-lite"])
    mine = Subject("mine.safetensors", known.config)
    assert read_quality(tmp_path / "a.json", [mine]).psnr == 30
    other = dataclasses.replace(mine, sha256="1")
    with pytest.raises(InputError, match="whose cost is not known"):
        read_quality(tmp_path / "a.json", [other])
    (large,) = subjects_of(["deblur-gopro"])
    same = dataclasses.replace(other, name="other.safetensors", sha256="0", config=large.config)
    assert read_quality(tmp_path / "a.json", [other, same]).scale == 1
    with pytest.raises(InputError, match="no finite mean PSNR"):
        read_quality(_evaluated(tmp_path / "b.json", "sr-x4-lite", None))
    (tmp_path / "c.json").write_text('{"protocol": "sr", "methods": {"results": {}}}')
    with pytest.raises(InputError, match="finished results"):
        read_quality(tmp_path / "c.json")
    (tmp_path / "d.json").write_text("{}")
    with pytest.raises(InputError, match="not JSON of diffir evaluate"):
        read_quality(tmp_path / "d.json")


def test_qualities_of_different_pictures_are_not_drawn_together(tmp_path: Path) -> None:
    first = read_quality(_evaluated(tmp_path / "a.json", "sr-x4-lite", 30.9))
    other = dataclasses.replace(first, weights="sr-x4", pictures=("baby.png",))
    check_alike([first, dataclasses.replace(other, protocol="realsr")])
    check_alike([first, dataclasses.replace(other, scale=2)])
    changed = dataclasses.replace(first, conventions="RGB")
    with pytest.raises(InputError, match="follow different conventions: '' and 'RGB'"):
        check_alike([first, changed])
    better = dataclasses.replace(first, others={"bicubic": 28.5})
    with pytest.raises(InputError, match=r"do not agree on bicubic: 28\.43 and 28\.50 dB"):
        check_alike([first, better])
    with pytest.raises(InputError, match="sr-x4-lite and sr-x4 are of different pictures"):
        check_alike([first, other])


def test_a_plot_has_a_line_for_each_variant_and_a_panel_for_each_protocol(tmp_path: Path) -> None:
    results = [
        result_of("sr-x4-lite", side, seconds * side, variant)
        for side in (32, 64)
        for variant, seconds in ((STREAMING, 0.01), (REFERENCE, 0.02))
    ]
    qualities = [
        read_quality(_evaluated(tmp_path / "a.json", "sr-x4-lite", 30.9)),
        read_quality(_evaluated(tmp_path / "b.json", "sr-x4", 32.2)),
        read_quality(_evaluated(tmp_path / "c.json", "deblur-lite", 25.2, "deblur")),
    ]
    latency, sr, deblur = panels_of(results, qualities).axes
    assert latency.get_xscale() == latency.get_yscale() == "log"
    labels = [text.get_text() for text in latency.get_legend().get_texts()]
    assert labels == ["sr-x4-lite, streaming fp32", "sr-x4-lite, reference fp32"]
    lines = [container.lines[0] for container in latency.containers]
    assert list(lines[1].get_xdata()) == [32, 64]
    assert list(lines[1].get_ydata()) == pytest.approx([0.64, 1.28])
    assert "protocol sr" in sr.get_title() and "protocol deblur" in deblur.get_title()
    points = [(*line.get_xdata(), *line.get_ydata()) for line in sr.lines[:2]]
    assert points == [
        (pytest.approx(31.80, abs=0.01), 30.9),
        (pytest.approx(722.51, abs=0.01), 32.2),
    ]


def test_names_of_networks_of_one_cost_stand_in_different_corners(tmp_path: Path) -> None:
    first = read_quality(_evaluated(tmp_path / "a.json", "sr-x4", 30.9))
    (panel,) = panels_of([], [first, dataclasses.replace(first, weights="mine")]).axes
    corners = [text.get_ha() for text in panel.texts if text.get_text() in ("sr-x4", "mine")]
    assert corners == ["left", "right"]


def test_networks_of_one_name_have_lines_of_their_own() -> None:
    result = result_of("sr-x4-lite", 32, 0.1)
    partner = dataclasses.replace(result.case.subject, sha256="1")
    other = dataclasses.replace(result, case=dataclasses.replace(result.case, subject=partner))
    (panel,) = panels_of([result, other]).axes
    assert len(panel.containers) == 2


def test_a_plot_is_a_png(bench: Callable[..., Outcome], tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    scores = _evaluated(tmp_path / "scores.json", "sr-x4-lite", 30.9)
    succeeded(bench("--plot", path, "--scores", scores))
    with Image.open(path) as image:
        assert image.format == "PNG" and image.size == (1200, 450)


@pytest.mark.usefixtures("never_run")
def test_without_matplotlib_a_plot_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    outcome = run_cli("benchmark", "--plot", tmp_path / "plot.png")
    assert outcome.exit_code == 1 and "pip install 'diffir-cli[plot]'" in outcome.stderr
