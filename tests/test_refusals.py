"""What is refused is refused at once: before torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import noise_image

NEEDS_ONNX = pytest.mark.skipif(
    not all(util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs the extra onnx",
)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["restore", "x.png", "-o", "y.png", "--nonsense"], 2),
        (["restore", "missing.png", "-o", "y.png"], 3),
        (["restore", "photo.png", "-o", "photo.png"], 3),
        (["restore", "photo.png", "-o", "y.png", "-w", "no-such"], 4),
        (["batch", "missing", "-o", "out"], 3),
        (["batch", "missing*.png", "-o", "out", "--dry-run"], 3),
        (["batch", ".", "-o", "out", "-w", "no-such"], 4),
        (["evaluate", "--gt", "missing"], 3),
        (["evaluate", "--gt", ".", "-w", "no-such"], 4),
        (["train", "missing.toml"], 6),
        (["degrade", "missing", "-o", "out", "--kind", "shake"], 3),
        (["convert", "missing.pth", "out.safetensors"], 4),
        (["export", "sr-x4-lite", "y.onnx", "--size", "64x64", "--dynamic"], 2),
        (["export", "sr-x4-lite", "y.onnx", "--size", "64"], 2),
        (["export", "sr-x4-lite", "y.png"], 3),
        (["export", "sr-x4-lite", "none/y.onnx"], 3),
        pytest.param(["export", "no-such", "y.onnx"], 4, marks=NEEDS_ONNX),
        pytest.param(["export", "missing.pth", "y.onnx"], 4, marks=NEEDS_ONNX),
        pytest.param(["export", "sr-x4", "y.onnx", "--offline"], 4, marks=NEEDS_ONNX),
        pytest.param(["export", "sr-x4-lite", "y.onnx", "--size", "63x64"], 2, marks=NEEDS_ONNX),
        pytest.param(["export", "inpaint-lite", "y.onnx", "--dynamic"], 2, marks=NEEDS_ONNX),
        (["download-weights", "no-such"], 4),
        (["download-weights", "--list"], 0),
        (["download-weights", "sr-x4", "--offline"], 4),
    ],
)
def test_what_is_refused_or_only_listed_loads_no_torch(
    arguments: list[str], code: int, tmp_path: Path
) -> None:
    Image.fromarray(noise_image(16, 16)).save(tmp_path / "photo.png")
    program = (
        "import sys; from diffir_cli.cli import main\n"
        f"sys.argv = ['diffir', *{arguments!r}]\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    environment = {**os.environ, "DIFFIR_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.splitlines()[-1] == "False"
