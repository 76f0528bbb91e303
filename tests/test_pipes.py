"""Pipes: `-` is standard input and standard output."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from diffir_cli.cli import app
from diffir_cli.imaging import write
from tests.conftest import noise_image, succeeded
from tests.processes import exit_code, start_command


def _piped(data: bytes, *arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=data)


def _file(kind: str, side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise_image(side, side)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "requested", "expected"),
    [("PNG", [], "PNG"), ("JPEG", [], "JPEG"), ("GIF", [], "PNG"), ("PNG", ["-f", "tif"], "TIFF")],
)
def test_a_picture_goes_through_a_pipe_in_its_own_format_or_the_one_asked_for(
    kind: str, requested: list[str], expected: str, s2_file: Path
) -> None:
    result = succeeded(_piped(_file(kind), "restore", "-", "-o", "-", "-w", s2_file, *requested))
    with Image.open(io.BytesIO(result.stdout_bytes)) as image:
        assert (image.format, image.size) == (expected, (32, 32))


def test_a_pipe_gives_the_bytes_of_a_file(s2_file: Path, tmp_path: Path) -> None:
    data = _file("PNG")
    (tmp_path / "in.png").write_bytes(data)
    piped = _piped(data, "restore", "-", "-o", "-", "-w", s2_file)
    filed = _piped(b"", "restore", tmp_path / "in.png", "-o", tmp_path / "out.png", "-w", s2_file)
    assert piped.exit_code == filed.exit_code == 0
    assert piped.stdout_bytes == (tmp_path / "out.png").read_bytes()


def test_sixteen_bits_go_through_a_pipe(s2_file: Path) -> None:
    buffer = io.BytesIO()
    deep = np.random.default_rng(0).integers(0, 65_536, (8, 8)).astype(np.uint16)
    Image.fromarray(deep).save(buffer, "PNG")
    result = succeeded(_piped(buffer.getvalue(), "restore", "-", "-o", "-", "-w", s2_file))
    with Image.open(io.BytesIO(result.stdout_bytes)) as image:
        assert image.mode == "I;16"


@pytest.mark.parametrize(
    ("data", "wording"),
    [(b"", "standard input is empty"), (b"no picture", "standard input: not a supported image")],
)
def test_what_is_no_picture_is_one_error(data: bytes, wording: str, s2_file: Path) -> None:
    result = _piped(data, "restore", "-", "-o", "-", "-w", s2_file)
    assert result.exit_code == 3
    assert wording in result.stderr and result.stdout == ""


def test_a_picture_that_nobody_reads_ends_with_the_exit_code_of_a_closed_pipe(
    s2_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.png").write_bytes(_file("PNG"))
    reading, writing = os.pipe()
    os.close(reading)
    command = ("restore", tmp_path / "in.png", "-o", "-", "-w", s2_file)
    line = [sys.executable, "-m", "diffir_cli", *map(str, command)]
    with os.fdopen(writing, "wb") as stdout:
        done = subprocess.run(line, stdout=stdout, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 141 and done.stderr == b""


def test_an_encoder_that_fails_is_one_error(s2_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise ValueError("the encoder cannot do this")

    monkeypatch.setattr(write, "encode", fail)
    result = _piped(_file("PNG"), "restore", "-", "-o", "-", "-w", s2_file)
    assert result.exit_code == 3 and result.stdout_bytes == b""
    assert "cannot write standard output as PNG: the encoder cannot do this" in result.stderr


def test_quality_without_effect_on_the_pipes_format_is_refused(s2_file: Path) -> None:
    result = _piped(_file("PNG"), "restore", "-", "-o", "-", "-w", s2_file, "--quality", 90)
    assert result.exit_code == 2 and "--quality cannot be used with PNG" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_reader_that_has_gone_is_one_error(s2_file: Path, tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(_file("PNG"))
    command = ("restore", tmp_path / "in.png", "-o", "-", "-w", s2_file)
    process = start_command(*command, stdout=Path("/dev/full"), stderr=tmp_path / "stderr")
    assert exit_code(process) == 1
    stderr = (tmp_path / "stderr").read_text(encoding="utf-8")
    assert stderr.startswith("error: cannot write the picture to standard output")
    assert "Traceback" not in stderr
