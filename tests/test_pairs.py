"""Files of two folders belong together by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffir_cli.errors import InputError
from diffir_cli.evaluation.pairs import match_folders
from tests.conftest import noise_folder, run_cli


def test_files_are_paired_by_name_and_never_by_order(tmp_path: Path) -> None:
    gt = noise_folder(tmp_path / "gt", "img1.png", "img10.png", "img2.png", "baby.bmp", "only.png")
    results = noise_folder(
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


def test_exact_names_go_first_and_a_number_behind_a_name_is_another_picture(tmp_path: Path) -> None:
    gt = noise_folder(tmp_path / "gt", "holiday.png", "baby.png")
    matched = match_folders(
        noise_folder(tmp_path / "lq", "holiday_2.png", "baby.png", "baby_x.png"), gt
    )
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
    gt = noise_folder(tmp_path / "gt", "caf\u00e9.png")
    matched = match_folders(noise_folder(tmp_path / "lq", "cafe\u0301.png"), gt)
    assert len(matched.pairs) == 1


def test_twins_whose_names_only_begin_alike_are_told(tmp_path: Path) -> None:
    gt = noise_folder(tmp_path / "gt", "a.png")
    result = run_cli("evaluate", noise_folder(tmp_path / "out", "a_sr.png"), gt)
    assert result.exit_code == 0 and "begin alike: a_sr.png with a.png" in result.stderr


def test_a_name_that_is_claimed_twice_is_refused(tmp_path: Path) -> None:
    gt = noise_folder(tmp_path / "gt", "a.png")
    with pytest.raises(InputError, match="both belong to"):
        match_folders(noise_folder(tmp_path / "one", "a_x.png", "a_y.png"), gt)
    with pytest.raises(InputError, match="same name apart from the extension"):
        match_folders(noise_folder(tmp_path / "two", "a.png", "a.bmp"), gt)
    with pytest.raises(InputError, match="no file of"):
        match_folders(noise_folder(tmp_path / "three", "b.png"), gt)
