"""`diffir convert` writes files that need nothing beside them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import run_cli


def test_convert_writes_a_file_that_needs_no_configuration(
    photo: Path, s2_file: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half.safetensors"
    assert run_cli("convert", s2_file, half, "--half").exit_code == 0
    assert half.stat().st_size < 0.6 * s2_file.stat().st_size
    assert run_cli("restore", photo, "-o", tmp_path / "out.png", "-w", half).exit_code == 0
    assert run_cli("convert", s2_file, half).exit_code == 3
    result = run_cli("convert", s2_file, "-o", half, "--overwrite", "--json")
    found = json.loads(result.stdout)
    assert found["output"] == str(half) and found["bytes"] == half.stat().st_size
    assert result.stderr == ""


def test_convert_never_overwrites_its_own_input(s2_file: Path) -> None:
    before = s2_file.read_bytes()
    assert run_cli("convert", s2_file, s2_file, "--overwrite").exit_code == 2
    assert s2_file.read_bytes() == before
