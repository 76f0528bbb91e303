"""Every way to misuse a command: one error, one hint, the exit code of its kind, and no torch."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import pytest
import typer
from PIL import Image

from diffir_cli.cli.app import app
from diffir_cli.cli.conflicts import _EXCLUSIVE
from tests.conftest import noise_image
from tests.refusals import ANSWERS, OLD_NAMES, OTHERS, USAGE

pytestmark = pytest.mark.xdist_group("refusals")

MISTAKES = [(line, 2, error, hint) for line, error, hint in USAGE] + OTHERS

_PROGRAM = """
import json, os, sys, typer.main, typer.testing
from diffir_cli.cli import app
command = typer.main.get_command(app)
vars(typer.testing)["_get_command"] = lambda _app: command
for line in json.load(sys.stdin):
    done = typer.testing.CliRunner().invoke(app, line.split(" "))
    found = {"code": done.exit_code, "stdout": done.stdout, "stderr": done.stderr}
    print(json.dumps({**found, "files": os.listdir(), "torch": "torch" in sys.modules}))
"""


@cache
def _commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def _pairs() -> list[tuple[str, str, str]]:
    """Every two parameters of a command that exclude each other."""
    return [
        (name, *pair)
        for name, command in _commands().items()
        for names in _EXCLUSIVE
        for pair in itertools.combinations(names, 2)
        if {*pair} <= {one.name for one in command.params}
    ]


def _typed(command: str, name: str) -> list[str]:
    """A parameter as a user would type it, with a value that it takes."""
    parameter = next(one for one in _commands()[command].params if one.name == name)
    values = {"on_exist": "skip", "alpha": "drop", "weights": "sr-x4-lite", "sweep": "8..16"}
    value = values.get(name, "8x8" if "size" in name else "2")
    if not parameter.opts[0].startswith("-"):
        return [value]
    return [parameter.opts[0], *([] if parameter.is_flag else [value])]


def _of_pair(command: str, one: str, other: str) -> str:
    """The line of a command with two parameters."""
    arguments = {"restore": ["photo.png"], "batch": ["."], "convert": ["w.safetensors"]}
    needed = arguments.get(command, ["sr-x4-lite"] if command == "export" else [])
    return " ".join([command, *needed, *_typed(command, one), *_typed(command, other)])


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What a process that has not loaded torch answers to all lines, in a folder with two files."""
    folder = tmp_path_factory.mktemp("refusals")
    Image.fromarray(noise_image(16, 16)).save(folder / "photo.png")
    (folder / "w.safetensors").write_bytes(b"weights")
    lines = [row[0] for row in MISTAKES] + [row[0] for row in OLD_NAMES] + ANSWERS
    lines += [_of_pair(*pair) for pair in _pairs()]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "DIFFIR_HOME": str(folder.with_name("home"))},
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(lines, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize(("line", "code", "error", "hint"), MISTAKES)
def test_a_mistake_is_one_error_one_hint_and_the_exit_code_of_its_kind(
    line: str, code: int, error: str, hint: str, answers: dict[str, dict[str, Any]]
) -> None:
    found = answers[line]
    assert found["code"] == code, found
    assert found["stdout"] == ""
    first, *rest = found["stderr"].splitlines()
    assert first.startswith("error: ") and error in first and not first.endswith(".")
    assert len(rest) == 1 and rest[0].startswith("hint: ") and rest[0] != "hint: "
    assert hint in found["stderr"]
    assert sorted(found["files"]) == ["photo.png", "w.safetensors"]


def test_what_is_refused_or_only_answered_loads_no_torch(
    answers: dict[str, dict[str, Any]],
) -> None:
    assert [line for line, found in answers.items() if found["torch"]] == []
    assert all(answers[line]["code"] == 0 for line in ANSWERS)


@pytest.mark.parametrize(("command", "one", "other"), _pairs())
def test_options_that_exclude_each_other_are_refused_in_one_wording(
    command: str, one: str, other: str, answers: dict[str, dict[str, Any]]
) -> None:
    found = answers[_of_pair(command, one, other)]
    assert found["code"] == 2, found
    first, *rest = found["stderr"].splitlines()
    assert " cannot be used with " in first and rest == ["hint: leave one of them out"]


@pytest.mark.parametrize(("line", "message"), OLD_NAMES)
def test_an_old_name_is_understood(
    line: str, message: str, answers: dict[str, dict[str, Any]]
) -> None:
    assert message in answers[line]["stderr"]


def test_every_command_has_the_options_that_make_sense_for_it() -> None:
    flags = {
        name: {flag for one in command.params for flag in one.opts}
        for name, command in _commands().items()
    }
    everywhere = set(flags)
    no_results = {"benchmark", "evaluate", "doctor"}
    cannot_download = {"benchmark", "train", "ablate", "degrade", "convert", "doctor"}
    without = {
        "--json": set[str](),
        "-q": set[str](),
        "-o": no_results,
        "--offline": cannot_download,
        "-v": cannot_download,
        "--registry": {"degrade"},
        "--overwrite": {"doctor", "download-weights", "train", "ablate"},
    }
    for flag, commands in without.items():
        assert {name for name in everywhere if flag not in flags[name]} == commands, flag
