"""`diffir.toml`: options that a user always wants."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main
from PIL import Image

from diffir_cli.cli import app
from diffir_cli.cli.settings_file import FileSettings
from diffir_cli.util.folders import settings_files
from tests.conftest import noise_image, run_cli, succeeded


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config folder of a user; commands run in another folder, `tmp_path / "here"`."""
    monkeypatch.setenv("DIFFIR_HOME", str(tmp_path / "home"))
    (tmp_path / "home/config").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Image.fromarray(noise_image(8, 8)).save("in.png")
    return tmp_path / "home/config"


def _restored(weights: Path, *options: object) -> dict[str, Any]:
    done = succeeded(run_cli("restore", "in.png", "-w", weights, "--json", "--overwrite", *options))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_command_line_goes_before_the_current_folder_and_that_before_the_config_folder(
    home: Path, s2_file: Path
) -> None:
    assert _restored(s2_file)["engine"] == "streaming"
    (home / "diffir.toml").write_text('engine = "reference"\nprecision = "bf16"\n')
    found = _restored(s2_file)
    assert (found["engine"], found["precision"]) == ("reference", "bf16")
    Path("diffir.toml").write_text('precision = "fp32"\n')
    found = _restored(s2_file)
    assert (found["engine"], found["precision"]) == ("reference", "fp32")
    assert _restored(s2_file, "--engine", "streaming")["engine"] == "streaming"


def test_the_environment_goes_before_a_file(
    home: Path, s2_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "diffir.toml").write_text('device = "cuda:999"\n')
    result = run_cli("restore", "in.png", "-w", s2_file)
    assert result.exit_code == 5 and "cuda:999 is not available" in result.stderr
    assert "diffir.toml sets device" in result.stderr
    monkeypatch.setenv("DIFFIR_DEVICE", "cpu")
    assert _restored(s2_file)["device"] == "cpu"


def test_a_task_from_a_file_is_that_of_restore_and_batch_only(home: Path) -> None:
    (home / "diffir.toml").write_text('task = "deblur"\nthreads = 1\n')
    done = succeeded(run_cli("restore", "in.png", "--json"))
    assert json.loads(done.stdout)["task"] == "deblur"
    listed = succeeded(run_cli("download-weights", "--list", "--json"))
    assert {entry["task"] for entry in json.loads(listed.stdout)["weights"]} > {"sr", "deblur"}


def test_an_option_from_a_file_contradicts_none_of_the_command_line(
    home: Path, s2_file: Path
) -> None:
    (home / "diffir.toml").write_text('task = "inpaint"\nmax-memory = "2G"\n')
    assert _restored(s2_file, "--task", "sr")["task"] == "sr"


def test_a_setting_applies_to_options_that_take_several_values(home: Path) -> None:
    (home / "diffir.toml").write_text('precision = "fp32"\nengine = "reference"\n')
    done = succeeded(run_cli("benchmark", "--cost-only", "-w", "sr-x4-lite", "--json"))
    assert json.loads(done.stdout)


def test_every_command_can_be_parsed_with_every_setting(home: Path) -> None:
    settings = {"device": "cpu", "engine": "reference", "jobs": 2, "max-memory": "2G"}
    settings |= {"max-pixels": 9, "precision": "bf16", "task": "sr", "threads": 3}
    assert {name.replace("-", "_") for name in settings} == {f.name for f in fields(FileSettings)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    (home / "diffir.toml").write_text("\n".join(lines))
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        arguments = []
        for one in command.params:
            if one.required:
                option = [] if one.param_type_name == "argument" else [one.opts[0]]
                arguments += [*option, "in.png"]
        context = command.make_context(name, arguments)
        for key in {"precision", "engine"} & set(context.params):
            found = context.params[key]
            assert (found[0] if isinstance(found, list) else found) == settings[key], name


def test_a_folder_that_may_not_be_entered_has_no_settings(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    (home / "diffir.toml").write_text('device = "cuda:999"\n')
    monkeypatch.setattr(os, "stat", refuse)
    found = settings_files()
    monkeypatch.undo()
    assert found == []


def test_a_device_on_the_command_line_goes_before_an_engine_in_a_file(
    home: Path, s2_file: Path
) -> None:
    (home / "diffir.toml").write_text('engine = "openvino"\n')
    result = run_cli("restore", "in.png", "-w", s2_file, "-d", "cuda:999")
    assert result.exit_code == 5 and "cuda:999 is not available" in result.stderr


@pytest.mark.parametrize(
    ("text", "wording"),
    [
        ("device = cpu", "is not a TOML file"),
        ('precison = "fp32"', "did you mean 'precision'?"),
        ('precision = "fp31"', "precision must be one of"),
        ('device = "gpu"', "device must be auto, cpu"),
        ("threads = 0", "threads must be a whole number from 1 to 1024"),
        ("max-pixels = 0", "max-pixels must be a whole number of at least 1"),
        ('max-memory = "much"', "max-memory must be a size such as 4G"),
        ('threads = "2"', "threads must be a whole number, not '2'"),
        ('max-memory = "4G"\nmax_memory = "2G"', "has a setting twice"),
        ("x = " + "[" * 100_000, "is not a TOML file"),
        ("weights = 'x.pth'", "weights is no setting"),
    ],
)
def test_a_file_that_makes_no_sense_is_one_error_but_help_is_given(
    text: str, wording: str, home: Path, s2_file: Path
) -> None:
    (home / "diffir.toml").write_text(text)
    result = run_cli("restore", "in.png", "-w", s2_file)
    assert result.exit_code == 2 and wording in result.stderr
    assert str(home / "diffir.toml") in result.stderr
    assert "hint: " in result.stderr and not Path("in_realsr_x4.png").exists()
    assert run_cli("restore", "--help").exit_code == 0
