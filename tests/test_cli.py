"""The command line as a user meets it: what it writes, what it says, how it ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import diffir_cli
from diffir_cli.cli.app import app
from diffir_cli.imaging import read_picture
from diffir_cli.models.diffir.checkpoint import save_weights
from diffir_cli.models.diffir.networks import DiffIRS2
from tests.conftest import noise_image, run_cli, succeeded
from tests.processes import exit_code, start_command


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_photo_is_restored_to_four_times_its_size(photo: Path, restore: Any) -> None:
    out = photo.with_name("out.png")
    result = succeeded(restore(photo, out))
    assert read_picture(out).size == (80, 48)
    assert result.stdout == ""
    assert result.stderr.startswith(f"{out}: 80×48 pixels in ")
    quiet = restore(photo, out, "--overwrite", "-q")
    assert (quiet.exit_code, quiet.output) == (0, "")


def test_json_is_one_object_in_ascii_on_stdout_and_nothing_else(
    photo: Path, s2_file: Path, restore: Any
) -> None:
    photo, out = photo.rename(photo.with_name("写真.png")), photo.with_name("out.webp")
    result = succeeded(restore(photo, out, "--json", "--seed", 3, "-d", "cpu"))
    assert result.stderr == "" and result.stdout.isascii()
    found = json.loads(result.stdout)
    assert found["input"] == str(photo) and found["output"] == str(out)
    assert found["input_size"] == [20, 12] and found["output_size"] == [80, 48]
    assert found["weights"]["name"] == s2_file.name and len(found["weights"]["sha256"]) == 64
    assert (found["seed"], found["device"], found["precision"]) == (3, "cpu", "fp32")
    assert found["seconds"] > 0


def test_names_of_other_tools_and_underscores_are_understood(photo: Path, s2_file: Path) -> None:
    for number, spelling in enumerate(("--model", "--model_path", "--ckpt", "-n", "--weights")):
        out = photo.with_name(f"{number}.png")
        succeeded(run_cli("restore", "-i", photo, "--output", out, f"{spelling}", s2_file))
    succeeded(
        run_cli("restore", f"--input={photo}", "-o", photo.with_name("x.png"), f"--model={s2_file}")
    )


@pytest.mark.parametrize(
    "before", [["-o"], ["--output"], ["-qo"], ["-v", "--output"], ["--overwrite", "-o"]]
)
@pytest.mark.parametrize("name", ["--half", "--model_path.png", "-i", "-n.png"])
def test_a_value_that_looks_like_another_name_of_an_option_stays_a_value(
    before: list[str], name: str, photo: Path, s2_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    result = run_cli("restore", photo, "-w", s2_file, "-f", "png", *before, name)
    assert result.exit_code == 0, result.output
    assert photo.with_name(name).exists()


@pytest.mark.parametrize("name", ["--half", "-i", "--model_path", "--input=a"])
def test_nothing_behind_two_hyphens_is_another_name_of_an_option(
    name: str, photo: Path, s2_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    photo.rename(name)
    result = run_cli("restore", "-o", "out.png", "-w", s2_file, "--", name)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["text.png", "-o", "out.png"], 3, "text.png: not a supported image", "PNG, JPEG, WebP"),
        (["cut.png", "-o", "out.png"], 3, "cut.png: the file is damaged", "again"),
        (["clear.png", "-o", "out.jpg"], 3, "transparency", "out.png"),
        (["photo.png", "-o", "out.png", "-w", "text.png"], 4, "not a weights file", "size"),
        (["photo.png", "-o", "out.png", "-w", "S1"], 4, "stage-1 network", "stage 2"),
        (["photo.png", "-o", "out.png", "-d", "cuda:99"], 5, "cuda:99", "--device cpu"),
    ],
)
def test_bad_input_gives_one_error_a_hint_and_its_exit_code(
    arguments: list[str],
    code: int,
    message: str,
    hint: str,
    photo: Path,
    s2_file: Path,
    s1_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = photo.parent
    monkeypatch.chdir(folder)
    Path("text.png").write_text("this is text")
    Path("cut.png").write_bytes(photo.read_bytes()[:300])
    Image.fromarray(noise_image(8, 8, 4)).save("clear.png")
    before = _names(folder)
    arguments = [str(s1_file) if argument == "S1" else argument for argument in arguments]
    if "-w" not in arguments:
        arguments += ["-w", str(s2_file)]
    result = run_cli("restore", *arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    error, *rest = result.stderr.strip().splitlines()
    assert error.startswith("error: ") and message in error
    assert not error.endswith(".")
    assert len(rest) == 1 and rest[0].startswith("hint: ") and hint in rest[0]
    assert _names(folder) == before


@pytest.mark.parametrize(
    ("name", "result"),
    [("scan.01.PNG", "scan.01.out.png"), ("Größe 写真.png", "Ergebnis ✓.png")],
    ids=["a dot", "not ASCII"],
)
def test_names_may_hold_dots_and_any_letters(
    name: str, result: str, photo: Path, restore: Any
) -> None:
    source, out = photo.rename(photo.with_name(name)), photo.with_name(result)
    assert restore(source, out).exit_code == 0 and out.exists()


def test_ctrl_c_ends_with_130_and_writes_nothing(
    photo: Path, restore: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_arguments: object, **_others: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("diffir_cli.runtime.runner.ModelRunner.run", interrupt)
    before = _names(photo.parent)
    assert restore(photo, photo.with_name("out.png")).exit_code == 130
    assert _names(photo.parent) == before


def test_the_version_is_printed() -> None:
    assert run_cli("--version").output == f"diffir {diffir_cli.__version__}\n"


def test_help_is_sorted_into_panels_in_one_order() -> None:
    titles = "Input & output|Model|Inpainting|Result|Speed & memory|Many machines|Messages"
    for command, missing in (("batch", ""), ("restore", "Many machines")):
        lines = run_cli(command, "--help").output.splitlines()
        found = [line[:-1] for line in lines if line.endswith(":") and not line.startswith(" ")]
        assert found[1:] == [title for title in titles.split("|") if title != missing]
    assert "Options:" in run_cli("doctor", "--help").output


def test_help_has_the_panels_of_the_page_of_commands_and_no_types_of_python() -> None:
    page = (Path(__file__).parent.parent / "docs" / "cli.md").read_text(encoding="utf-8")
    for section in page.split("\n## diffir ")[1:]:
        text = succeeded(run_cli(section.split("\n", 1)[0], "--help")).output
        assert text.startswith("Usage") and not re.search(r"<path>|<str>|list\[", text)
        lines = text.splitlines()
        found = [line[:-1] for line in lines if line.endswith(":") and not line.startswith(" ")]
        expected = re.findall(r"^\*\*(.*)\*\*$", section, re.MULTILINE)
        assert [title for title in found if title != "Arguments"] == expected, section


@pytest.mark.parametrize(
    ("words", "expected"),
    [("restore -w deblur-", "deblur-lite"), ("batch --task in", "inpaint"), ("eval", "evaluate")],
)
def test_a_shell_completes_commands_tasks_and_names_of_weights(words: str, expected: str) -> None:
    settings = {
        "_DIFFIR_COMPLETE": "complete_bash",
        "COMP_WORDS": f"diffir {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    done = CliRunner().invoke(app, [], env=settings, prog_name="diffir")
    assert expected in done.stdout.split(), done.output


def test_the_python_interface_restores_photos_by_default() -> None:
    assert diffir_cli.Restorer().weights.name == "realsr-x4-lite"


def test_help_and_version_load_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "PIL", "cv2", "requests", "safetensors", "ray", "tqdm"}
    code = (
        "import sys; from diffir_cli.cli import main\n"
        "for flag in ('--version', '--help'):\n"
        "    sys.argv = ['diffir', flag]\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        f"assert not {heavy!r} & set(sys.modules), {heavy!r} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "Usage" in done.stdout, done.stderr


def test_a_network_whose_result_is_not_finite_writes_nothing(
    photo: Path, s2: DiffIRS2, tmp_path: Path
) -> None:
    with torch.no_grad():
        for parameter in s2.dirformer.parameters():
            parameter.mul_(1e12)
    save_weights(tmp_path / "wild.safetensors", s2, {})
    out = tmp_path / "out.png"
    result = run_cli("restore", photo, "-o", out, "-w", tmp_path / "wild.safetensors")
    assert result.exit_code == 4
    assert "NaN or infinite" in result.stderr and "Traceback" not in result.output
    assert not out.exists()


def test_a_name_of_the_longest_length_works_and_a_longer_one_costs_nothing(
    photo: Path, restore: Any
) -> None:
    assert restore(photo, photo.with_name("n" * 251 + ".png")).exit_code == 0
    result = restore(photo, photo.with_name("n" * 300 + ".png"))
    assert result.exit_code == 3 and "shorter name" in result.stderr


def test_the_threads_are_those_asked_for(
    photo: Path, restore: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    assert restore(photo, photo.with_name("out.png"), "--threads", 3).exit_code == 0
    assert asked == [3]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("asked", ["--help", "restore --help", "--version", "picture"])
def test_a_full_stdout_is_one_error_and_the_picture_is_there(
    asked: str, photo: Path, s2_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    picture = ["restore", photo, "-o", out, "-w", s2_file, "--json"]
    command = picture if asked == "picture" else asked.split()
    process = start_command(*command, stdout=Path("/dev/full"), stderr=tmp_path / "stderr")
    assert exit_code(process) == 1
    stderr = (tmp_path / "stderr").read_text(encoding="utf-8")
    what = "the JSON to stdout" if asked == "picture" else ""
    assert stderr.startswith(f"error: cannot write {what}") and "Traceback" not in stderr
    assert out.exists() is (asked == "picture")


def test_errors_have_no_colour_in_a_file_nor_with_no_color(tmp_path: Path) -> None:
    command = ("restore", "absent.png", "-o", tmp_path / "o.png")
    process = start_command(*command, stdout=tmp_path / "stdout", stderr=tmp_path / "stderr")
    assert exit_code(process) == 3
    assert "\x1b" not in (tmp_path / "stderr").read_text(encoding="utf-8")


def test_an_unreadable_file_is_an_input_error(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_settings: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    result = run_cli("restore", photo, "-o", photo.with_name("out.png"))
    assert result.exit_code == 3
    assert "no permission to read" in result.stderr and "chmod" in result.stderr


@pytest.mark.parametrize(("quiet", "lines"), [([], 2), (["-q"], 0)])
def test_only_the_first_of_several_pictures_is_used_and_said_so(
    quiet: list[str], lines: int, tmp_path: Path, s2_file: Path
) -> None:
    frames = [Image.fromarray(noise_image(8, 8, seed=seed)) for seed in range(2)]
    frames[0].save(tmp_path / "in.gif", save_all=True, append_images=frames[1:])
    command = ("restore", tmp_path / "in.gif", "-o", tmp_path / "out.png", "-w", s2_file, *quiet)
    process = start_command(*command, stdout=tmp_path / "stdout", stderr=tmp_path / "stderr")
    assert exit_code(process) == 0
    stderr = (tmp_path / "stderr").read_text(encoding="utf-8")
    assert len(stderr.splitlines()) == lines
    assert ("has 2 frames" in stderr) is bool(lines)


def test_a_format_that_might_lose_depth_is_refused(tmp_path: Path, restore: Any) -> None:
    (tmp_path / "deep.ppm").write_bytes(b"P6 8 8 65535\n" + bytes(8 * 8 * 6))
    result = restore(tmp_path / "deep.ppm", tmp_path / "out.png")
    assert result.exit_code == 3 and "not a supported image" in result.stderr


def test_the_python_interface_gives_what_the_command_gives(
    photo: Path, s2_file: Path, restore: Any
) -> None:
    out = photo.with_name("out.png")
    assert restore(photo, out, "--seed", 4).exit_code == 0
    restorer = diffir_cli.Restorer("sr", weights=str(s2_file))
    found = restorer.restore(np.asarray(Image.open(photo)), seed=4)
    np.testing.assert_array_equal(found, read_picture(out).rgb)


def test_a_result_without_a_name_goes_beside_its_input_and_replaces_nothing(
    photo: Path, s2_file: Path
) -> None:
    for expected in ("photo_realsr_x4.png", "photo_realsr_x2.png"):
        more = ["--outscale", 2] if "x2" in expected else []
        done = succeeded(run_cli("restore", photo, "-w", s2_file, *more))
        assert photo.with_name(expected).is_file() and expected in done.stderr
    again = run_cli("restore", photo, "-w", s2_file)
    assert again.exit_code == 3 and "photo_realsr_x4.png already exists" in again.stderr


def test_the_task_is_that_of_named_weights(photo: Path) -> None:
    for weights, task in (("sr-x4-lite", "sr"), ("deblur-lite", "deblur")):
        done = succeeded(run_cli("restore", photo, "-w", weights, "--json"))
        found = json.loads(done.stdout)
        assert found["task"] == task and f"_{task}_x" in found["output"]


def test_a_fault_of_the_device_in_the_environment_names_the_variable(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFIR_DEVICE", "cpu,gpu")
    refused = run_cli("restore", photo)
    assert refused.exit_code == 2 and "DIFFIR_DEVICE must be" in refused.stderr
    assert "not 'gpu'" in refused.stderr and "hint: unset DIFFIR_DEVICE" in refused.stderr
    typed = run_cli("restore", photo, "-d", "cpu,cpu")
    assert typed.exit_code == 2 and "--device must be" in typed.stderr


def test_of_several_devices_in_the_environment_one_picture_is_restored_on_the_first(
    photo: Path, restore: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFIR_DEVICE", "cpu,cuda:7")
    done = succeeded(restore(photo, tmp_path / "out.png", "--json"))
    assert json.loads(done.stdout)["device"] == "cpu"
