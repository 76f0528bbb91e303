"""Every way to misuse a command: one error, one hint, the exit code of its kind, and no torch."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from diffir_cli.cli.app import app
from diffir_cli.cli.conflicts import _EXCLUSIVE
from tests.conftest import noise_image, run_cli

_HAS_ONNX = all(util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
_HAS_OPENVINO = util.find_spec("openvino") is not None

USAGE = [
    # Unknown, missing or malformed: the same in all commands, since Typer finds it.
    ("no-such-command", "no such command: no-such-command", "see diffir --help"),
    ("restor photo.png", "no such command: restor", "did you mean restore?"),
    ("--versoin", "no such option: --versoin", "did you mean --version?"),
    ("restore", "IN is missing", "usage: diffir restore [OPTIONS] IN"),
    ("batch", "IN is missing", "usage: diffir batch [OPTIONS] IN..."),
    ("train", "RECIPE is missing", "usage: diffir train [OPTIONS] RECIPE"),
    ("degrade photo.png", "--output is missing", "usage: diffir degrade [OPTIONS] IN"),
    ("convert photo.png", "--output is missing", "add -o FILE.safetensors"),
    ("export sr-x4-lite", "--output is missing", "add -o FILE.onnx"),
    ("batch photo.png", "--output is missing", "add -o DIR, or --in-place"),
    ("evaluate", "RESULTS or --gt is missing", "diffir evaluate RESULTS GT"),
    ("evaluate photo.png", "GT is missing", "diffir evaluate RESULTS GT"),
    ("download-weights", "NAME is missing", "name weights, or add --task or --all"),
    ("download-weights --remove", "NAME is missing", "name weights"),
    ("restore photo.png --taks sr", "no such option: --taks", "did you mean --task?"),
    ("doctor --jsno", "no such option: --jsno", "did you mean --json?"),
    ("restore photo.png -x", "no such option: -x", "see diffir restore --help"),
    ("restore photo.png --seed", "--seed needs a value", "see diffir restore --help"),
    ("restore photo.png --json=1", "--json takes no value", "see diffir restore --help"),
    ("restore photo.png b.png", "unexpected argument: b.png", "diffir batch takes several images"),
    ("train a.toml b.toml", "unexpected argument: b.toml", "usage: diffir train"),
    ("restore photo.png --seed x", "--seed must be a whole number from 0 to", "not 'x'"),
    ("restore photo.png --seed -1", "--seed must be a whole number from 0 to", "not '-1'"),
    ("benchmark --threads 100000", "--threads must be a whole number from 1 to 1024", "'100000'"),
    ("export sr-x4-lite -o y.onnx --opset 17", "--opset must be a whole number from 18", "'17'"),
    ("restore photo.png --strength 2", "--strength must be a number from 0.0 to 1.0", "not '2'"),
    ("restore photo.png --strength a", "--strength must be a number from 0.0 to 1.0", "not 'a'"),
    ("restore photo.png --task derain", "--task must be one of sr, realsr, deblur", "'derain'"),
    ("restore photo.png --precision fp8", "--precision must be one of auto, fp32", "not 'fp8'"),
    ("benchmark --precision fp8", "--precision must be one of auto, fp32", "separate several by"),
    (
        "benchmark --engine streaming,fast",
        "--engine must be one of streaming, reference, openvino",
        "'fast'",
    ),
    ("restore photo.png --engine stream", "--engine must be one of", "did you mean streaming?"),
    ("evaluate --gt . --metric lpip-alex", "--metric must be one of", "did you mean lpips-alex?"),
    ("benchmark --engine stream", "--engine must be one of", "did you mean streaming?"),
    ("degrade . -o out --kind shkae", "--kind must be one of", "did you mean shake?"),
    ("restore photo.png -o a.png -f gif", "--format must be one of png, jpg", ""),
    ("restore photo.png -f pgn", "--format must be one of png, jpg", "did you mean png?"),
    ("batch . -o out -f pgn", "--format must be one of png, jpg", "did you mean png?"),
    ("restore photo.png -d gpu", "--device must be auto, cpu, cuda", "leave --device out"),
    ("batch . -o out -d cpu,gpu", "--device must be auto, cpu, cuda", "leave --device out"),
    ("evaluate --gt . -d gpu", "--device must be auto, cpu, cuda", "leave --device out"),
    ("benchmark -d gpu", "--device must be auto, cpu, cuda", "leave --device out"),
    ("train a.toml -d gpu", "--device must be auto, cpu, cuda", "leave --device out"),
    ("ablate . -d gpu", "--device must be auto, cpu, cuda", "leave --device out"),
    ("restore photo.png --tile x", "--tile must be auto, off or a number", "write --tile 256"),
    ("restore photo.png --tile 40", "--tile 40 is too small", "write --tile 64"),
    ("restore photo.png --max-memory x", "--max-memory must be a size, not 'x'", "write 4G"),
    ("evaluate --gt . --tile 8", "--tile 8 is too small", "write --tile 64"),
    ("restore photo.png --size 0x0", "--size must be a width, a height", "write 3840x2160"),
    ("restore photo.png --size -5x9", "--size must be a width, a height", "write 3840x2160"),
    ("restore photo.png --size 9", "--size must be a width, a height", "write 3840x2160"),
    ("restore photo.png --background x", "--background must be a colour, not 'x'", "write white"),
    ("batch . -o out --shard 3/2", "--shard must be K/N with K from 1 to N", "write 1/4"),
    ("batch . -o out --name {x}", "--name has no field {x}", "{stem}"),
    ("batch . -o out --name {stem.x}", "--name has no field {stem.x}", "{stem}"),
    ("batch . -o out --name {stem[0]}", "--name has no field {stem[0]}", "{stem}"),
    (
        "batch . -o out --name {stem",
        "--name '{stem' is not a valid template",
        "write {{ for a brace",
    ),
    (
        "batch . -o out --name {stem:d}",
        "--name '{stem:d}' is not a valid template",
        "leave : and !",
    ),
    (
        "batch . -o out --name {stem!q}",
        "--name '{stem!q}' is not a valid template",
        "leave : and !",
    ),
    ("benchmark --input-size 9", "--input-size must be WIDTHxHEIGHT, not '9'", "write 640x480"),
    ("benchmark --input-size 0x8", "takes sides of 1 to 16384 pixels, not 0", "a smaller side"),
    ("benchmark --input-size 16385x8", "sides of 1 to 16384 pixels, not 16385", "a smaller side"),
    (f"benchmark --input-size {'9' * 5000}x8", f"pixels, not {'9' * 20}", "a smaller side"),
    ("benchmark --sweep 256..128", "--sweep must go from small to large", "write 128..2048"),
    ("benchmark --sweep 9", "--sweep must be FIRST..LAST, not '9'", "write 128..2048"),
    ("export sr-x4-lite -o y.onnx --input-size 9", "--input-size must be WIDTHxHEIGHT", "640x480"),
    ("export sr-x4-lite -o y.onnx --input-size 8x8,9x9", "--input-size takes one size", "256x256"),
    # Named twice.
    ("restore photo.png -o a.png --compare a.png", "a.png is named twice", "--compare"),
    ("convert w.safetensors -o w.safetensors", "w.safetensors is named twice", "--output"),
    ("degrade . -o .", ". is the folder of the photos", "name another one"),
    ("evaluate --gt . --csv a --markdown a", "a is named twice", "give --markdown a file"),
    ("benchmark --csv a --markdown a", "a is named twice", "give --markdown a file of its own"),
    # Missing company.
    ("restore photo.png --mask-invert", "--mask-invert needs --mask", "add --mask"),
    ("restore photo.png --mask-dilate 3", "--mask-dilate needs --mask or --mask-from-alpha", "add"),
    ("batch . -o out --mask-dilate 3", "--mask-dilate needs --mask or --mask-from-alpha", "add"),
    ("restore photo.png --task inpaint", "--task inpaint needs --mask", "add --mask FILE"),
    ("batch . -o out --task inpaint", "--task inpaint needs --mask", "add --mask FILE"),
    ("evaluate --gt . --task inpaint", "--mask is needed", "add --mask DIR"),
    ("evaluate --gt . --task deblur", "--task deblur needs --lq", "add --lq DIR"),
    ("evaluate --gt . --overwrite", "--overwrite needs --csv or --markdown or --report", "add"),
    ("benchmark --overwrite", "--overwrite needs --csv or --markdown or --plot", "add"),
    ("batch . -o out --ray-workers 2", "--ray-workers needs --ray", "add --ray"),
    ("batch . -o out --gpus-per-worker 1", "--gpus-per-worker needs --ray", "add --ray"),
    ("benchmark --budget 3", "--budget needs --sweep", "add --sweep"),
    ("benchmark --tolerance 1", "--tolerance needs --compare", "add --compare"),
    ("benchmark --scores a.json", "--scores needs --plot", "add --plot"),
    ("benchmark --cost-only --plot a.png", "--plot with --cost-only needs --scores", "add"),
    ("restore - -w sr-x4-lite", "what is piped in has no name", "add --output FILE"),
    # Contradictions beyond the table of conflicts.py.
    ("restore photo.png --mask m.png", "--mask cannot be used with --task realsr", "inpaint"),
    ("batch . -o out --mask m", "--mask cannot be used with --task realsr", "add --task inpaint"),
    ("batch . -o out --mask-from-alpha -w deblur-lite", "with --task deblur", "add --task inpaint"),
    ("evaluate --gt . --mask m", "--mask cannot be used with --task sr", "leave --mask out"),
    (
        "restore photo.png --task inpaint --mask m.png --color-fix adain",
        "--color-fix cannot be used with --task inpaint",
        "leave --color-fix out",
    ),
    (
        "batch . -o out --task inpaint --mask m --alpha network",
        "--alpha cannot be used with --task inpaint",
        "leave --alpha out",
    ),
    ("restore photo.png --tile off --tile-overlap 8", "--tile-overlap cannot be used with", "out"),
    ("evaluate --gt . --tile off --tile-overlap 8", "--tile-overlap cannot be used with", "out"),
    ("restore photo.png --alpha drop --background red", "--background cannot be used with", "out"),
    ("restore photo.png -o a.png --quality 9", "--quality cannot be used with PNG", "leave"),
    ("restore photo.png -o a.jpg --lossless", "--lossless cannot be used with JPEG", "PNG"),
    ("batch . -o out -f png --quality 9", "--quality cannot be used with PNG", "leave"),
    ("batch . -o out -f jpg --lossless", "--lossless cannot be used with JPEG", "PNG"),
    ("restore photo.png -o a.png -f jpg", "the extension of a.png does not match", "name it a.jpg"),
    ("restore photo.png -o - --json", "--json cannot be used with -o -", "leave --json out"),
    ("batch . -o out --dry-run -q", "--dry-run cannot be used with --quiet", "leave one"),
    ("batch . -o out --ray auto -d cpu,cpu", "--ray cannot be used with several devices", "leave"),
    ("evaluate . . --seed 3", "--seed cannot be used with finished results", "leave --seed out"),
    ("evaluate . . --color-fix none", "--color-fix cannot be used with finished results", "out"),
    ("evaluate . . --baseline bicubic", "--baseline cannot be used with finished results", "out"),
    ("evaluate . . --tile 64", "--tile cannot be used with finished results", "leave --tile out"),
    ("evaluate . . --engine reference", "--engine cannot be used with finished results", "out"),
    ("evaluate . . -d cpu", "--device cannot be used with finished results", "leave --device out"),
    (
        "evaluate . . --protocol inpaint --align 2",
        "--align cannot be used with the protocol",
        "out",
    ),
    ("evaluate --gt . --baseline none --baseline ns", "--baseline none cannot be used with", "out"),
    ("benchmark --all --task sr", "--task cannot be used with --all", "leave one of them out"),
    ("benchmark --paper --csv a", "--csv cannot be used with --paper", "leave --csv out"),
    ("benchmark --paper -q", "--quiet cannot be used with --paper", "add --markdown or --json"),
    ("benchmark --paper --modules", "--modules cannot be used with --paper", "leave --modules out"),
    ("benchmark --paper --input-size 8x8", "--input-size cannot be used with --paper", "leave"),
    ("benchmark --cost-only --repeats 3", "--repeats cannot be used with --cost-only", "leave"),
    ("benchmark --cost-only -d cpu", "--device cannot be used with --cost-only", "leave --device"),
    (
        "degrade photo.png -o a.png --kind shake -s 2",
        "--scale cannot be used with --kind shake",
        "",
    ),
    ("degrade photo.png -o a.png --kind bicubic --seed 2", "--seed cannot be used with", "out"),
    ("degrade . -o out --count 2", "--count cannot be used with a folder", "leave --count out"),
    ("download-weights --list --remove", "--list cannot be used with --remove", "leave one"),
    ("download-weights --list -q", "--quiet cannot be used with --list", "leave one of them out"),
    ("download-weights --list -o out", "--output cannot be used with --list", "leave one of them"),
    ("download-weights sr-x4 --all", "--all cannot be used with NAME", "leave one of them out"),
    ("download-weights --from a.pth --task sr", "--task cannot be used with --from", "leave"),
    ("download-weights --from a.pth --all", "--all cannot be used with --from", "leave --all out"),
    ("download-weights a b --from a.pth", "--from takes one name at most", "for each file"),
    ("convert photo.png a.safetensors -o b.safetensors", "--output cannot be used with OUT", "one"),
]
"""Command line, what the error says, what the hint or the error says: exit code 2."""

OTHERS = [
    # Images, folders, targets.
    ("restore missing.png", 3, "no such file: missing.png", "check the name"),
    ("restore photo.png -o photo.png", 3, "photo.png already exists", "--overwrite"),
    ("restore photo.png -o .", 3, ". is a folder", "name a file in it"),
    ("restore . -o out.png", 3, ". is a folder", "name one of the images"),
    (
        "restore https://example.org/a.jpg",
        3,
        "https://example.org/a.jpg is a URL",
        "curl -sL https",
    ),
    ("restore s3://bucket/a.jpg -o o.png", 3, "s3://bucket/a.jpg is a URL", "diffir batch"),
    ("restore photo.png -o s3://bucket/o.png", 3, "s3://bucket/o.png is a URL", "diffir batch"),
    ("restore photo.png --mask=http://a.org/m.png", 3, "http://a.org/m.png is a URL", "curl"),
    ("restore file:///a.jpg", 3, "file:///a.jpg is a URL", "without file://"),
    ("restore photo.png -o a", 3, "its name has no extension", ""),
    ("restore photo.png -o a.tga", 3, "unknown extension '.tga'", "use one of"),
    ("restore photo.png -o none/a.png", 3, "no such folder: none", "mkdir"),
    ("restore photo.png --compare a.txt", 3, "unknown extension '.txt'", "use one of"),
    ("batch missing -o out", 3, "no such file or folder: missing", "check its name"),
    ("batch missing*.png -o out --dry-run", 3, "missing*.png", ""),
    ("batch . -o photo.png", 3, "photo.png is a file, not a folder", "name a folder"),
    ("batch . -o out --report a.txt", 3, "a.txt must end in .html", "write a.html"),
    ("evaluate --gt missing", 3, "missing", ""),
    ("evaluate missing .", 3, "missing", ""),
    ("evaluate --gt . --report a.txt", 3, "a.txt must end in .html", "write a.html"),
    ("evaluate --gt . --report none/a.html", 3, "no such folder: none", "mkdir"),
    ("evaluate --gt . --csv none/a.csv", 3, "no such folder: none", "mkdir"),
    (f"evaluate . . --csv {os.devnull} --overwrite", 3, "is not a regular file", "name a file"),
    ("evaluate --gt . --csv photo.png", 3, "photo.png already exists", "--overwrite"),
    ("benchmark --csv photo.png", 3, "photo.png already exists", "--overwrite"),
    ("benchmark --plot a.jpg", 3, "a.jpg must end in .png", "write a.png"),
    ("benchmark --plot -", 3, "- must end in .png", "write -.png"),
    ("benchmark --csv none/x.csv", 3, "no such folder: none", "mkdir"),
    ("benchmark --compare no.json", 3, "cannot read no.json", "check the name"),
    ("benchmark --plot x.png --scores no.json", 3, "cannot read no.json", "check the name"),
    ("degrade missing -o out --kind shake", 3, "no such file or folder: missing", "check"),
    ("convert photo.png -o a.pth", 3, "a.pth must end in .safetensors", "write a.safetensors"),
    ("convert photo.png -o none/a.safetensors", 3, "no such folder: none", "mkdir"),
    ("export sr-x4-lite -o y.png", 3, "y.png must end in .onnx", "write y.onnx"),
    ("export sr-x4-lite -o none/y.onnx", 3, "no such folder: none", "mkdir"),
    # Weights.
    ("restore photo.png -w realsr-4x", 4, "no weights named 'realsr-4x'", "'realsr-x4'"),
    ("restore photo.png -w missing.pth", 4, "no such weights file: missing.pth", "known names"),
    ("restore photo.png -w sr-x4 --offline", 4, "downloads are off", "drive.google"),
    ("restore photo.png -w sr-x4 --task deblur", 4, "for task 'sr'", "--task sr"),
    ("restore photo.png --task deblur -s 4", 4, "no weights for task 'deblur'", "--scale 1"),
    ("benchmark -w no.pth", 4, "no such weights file: no.pth", "known names"),
    ("batch . -o out -w no-such", 4, "no weights named 'no-such'", "known names"),
    ("batch . -o out -w sr-x4 --offline", 4, "sr-x4", ""),
    ("evaluate --gt . -w no-such", 4, "no weights named 'no-such'", "known names"),
    ("evaluate --gt . -w sr-x4 --offline", 4, "sr-x4", ""),
    ("convert missing.pth -o a.safetensors", 4, "no such file: missing.pth", "check its name"),
    ("download-weights no-such", 4, "no weights named 'no-such'", "known names"),
    ("download-weights sr-x4 --offline", 4, "sr-x4", ""),
    (
        "download-weights sr-x4-lite --accept-license no-such",
        4,
        "no weights named 'no-such'",
        "known",
    ),
    ("download-weights --remove no-such", 4, "no weights named 'no-such'", "known"),
    ("restore photo.png --registry missing.toml", 4, "missing.toml", ""),
    # Recipes.
    ("train missing.toml", 6, "missing.toml has 1 fault: cannot read it", "check the name"),
    ("train photo.png", 6, "photo.png has 1 fault: it is not valid TOML", "fix it"),
]
"""Command line, exit code, what the error says, what the hint says."""

if _HAS_ONNX:
    USAGE += [
        ("export sr-x4-lite -o y.onnx --input-size 63x64", "does not fit", "write 64x64"),
        ("export sr-x4-lite -o y.onnx --input-size 50x3", "multiples of 8", "write 48x8"),
        ("export inpaint-lite -o y.onnx --dynamic", "--dynamic cannot be used with", "add --input"),
    ]
    OTHERS += [
        ("export no-such -o y.onnx", 4, "no weights named 'no-such'", "known names"),
        ("export missing.pth -o y.onnx", 4, "no such weights file: missing.pth", "known names"),
        ("export sr-x4 -o y.onnx --offline", 4, "sr-x4", ""),
    ]

if _HAS_OPENVINO:
    USAGE += [
        (f"{line} --engine openvino -d {device}", f"cannot be used with --device {device}", "xpu")
        for line in ("restore photo.png", "batch . -o out", "evaluate --gt .")
        for device in ("cuda:1", "mps")
    ]

ANSWERS = ["--help", "--version", "restore --help", "download-weights --list"]
"""What is answered at once, too."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFIR_HOME", str(tmp_path / "home"))
    Image.fromarray(noise_image(16, 16)).save("photo.png")
    Path("w.safetensors").write_bytes(b"weights")
    return tmp_path


def _everything() -> list[tuple[str, int, str, str]]:
    return [(line, 2, error, hint) for line, error, hint in USAGE] + OTHERS


@pytest.mark.parametrize(("line", "code", "error", "hint"), _everything())
def test_a_mistake_is_one_error_one_hint_and_the_exit_code_of_its_kind(
    line: str, code: int, error: str, hint: str, folder: Path
) -> None:
    before = sorted(folder.iterdir())
    result = run_cli(*line.split(" "))
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    first, *rest = result.stderr.splitlines()
    assert first.startswith("error: ") and error in first and not first.endswith(".")
    assert len(rest) == 1 and rest[0].startswith("hint: ") and rest[0] != "hint: "
    assert hint in result.stderr
    assert sorted(folder.iterdir()) == before


def test_what_is_refused_or_only_answered_loads_no_torch(folder: Path) -> None:
    """In one new process for all, since each of them would take a fraction of a second."""
    lines = [line for line, *_ in _everything()] + ANSWERS
    program = (
        "import json, sys, typer.main, typer.testing\n"
        "from typer.testing import CliRunner\n"
        "from diffir_cli.cli import app\n"
        "command = typer.main.get_command(app)\n"
        "vars(typer.testing)['_get_command'] = lambda _app: command\n"
        "for line in json.load(sys.stdin):\n"
        "    CliRunner().invoke(app, line.split(' '))\n"
        "    if 'torch' in sys.modules: sys.exit(line)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        env={**os.environ, "DIFFIR_HOME": str(folder / "home")},
    )
    assert done.returncode == 0, f"loads torch: {done.stderr}"


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


@pytest.mark.parametrize(("command", "one", "other"), _pairs())
def test_options_that_exclude_each_other_are_refused_in_one_wording(
    command: str, one: str, other: str, folder: Path
) -> None:
    arguments = {"restore": ["photo.png"], "batch": ["."], "convert": ["w.safetensors"]}
    needed = arguments.get(command, ["sr-x4-lite"] if command == "export" else [])
    result = run_cli(command, *needed, *_typed(command, one), *_typed(command, other))
    assert result.exit_code == 2, result.output
    assert " cannot be used with " in result.stderr.splitlines()[0]
    assert result.stderr.splitlines()[1:] == ["hint: leave one of them out"]
    assert folder.exists()


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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("evaluate --gt . --html a.txt", "a.txt must end in .html"),
        ("restore photo.png --no-download -w sr-x4", "downloads are off"),
        ("download-weights sr-x4 --dir mine --offline", "downloads are off"),
        ("benchmark --size 9", "--input-size must be WIDTHxHEIGHT"),
        ("benchmark --quality a.json", "--scores needs --plot"),
        ("convert w.safetensors w.pth", "w.pth must end in .safetensors"),
    ],
)
def test_an_old_name_is_understood(line: str, message: str, folder: Path) -> None:
    assert message in run_cli(*line.split(" ")).stderr
    assert folder.exists()
