"""`diffir doctor` tries everything, tells it in plain text, and never fails itself."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffir_cli.doctor import checks as doctor_checks
from diffir_cli.doctor import environment
from diffir_cli.doctor.check import Check, State, failures, tried
from diffir_cli.doctor.environment import EXTRAS, LIBRARIES
from diffir_cli.doctor.run_checks import run_checks
from diffir_cli.errors import DiffIRError, WeightsError
from diffir_cli.options import Precision
from diffir_cli.runtime.runner import ModelRunner, Restored
from diffir_cli.util.folders import cache_folder
from diffir_cli.weights import registry
from diffir_cli.weights.cache import imported_path
from diffir_cli.weights.policy import pin
from diffir_cli.weights.registry import find_weights, read_registry
from tests.conftest import TINY, run_cli, succeeded

MINE = dataclasses.replace(find_weights("sr-x4"), model=TINY)
"""An official entry, as if its network were tiny."""


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what takes long."""
    monkeypatch.setattr(doctor_checks, "read_registry", lambda _extra: {})


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package's folder of weights, which may be damaged."""
    read_registry()
    (tmp_path / "weights").mkdir()
    for spec in read_registry().values():
        if spec.embedded:
            (tmp_path / "weights" / spec.file).symlink_to(spec.path)
    monkeypatch.setattr(registry, "EMBEDDED", tmp_path / "weights")
    return tmp_path / "weights"


def test_all_is_well_here_and_every_embedded_network_has_restored_a_picture() -> None:
    outcome = succeeded(run_cli("doctor", "--json"))
    found = json.loads(outcome.stdout)
    assert found["ok"]
    checks = {(check["section"], check["name"]): check for check in found["checks"]}
    embedded = [spec for spec in read_registry().values() if spec.embedded]
    for spec in embedded:
        assert checks["weights", spec.name]["text"].startswith("verified, sha256")
        side = 64 * spec.scale
        assert f"64×64 to {side}×{side} in" in checks["restorations", spec.name]["text"]
    assert checks["precisions", "cpu fp32"]["text"] == "works"
    assert checks["precisions", "cpu fp16"]["state"] == "absent"
    sections = {section for section, _ in checks}
    assert sections == {
        *("versions", "system", "extras", "devices", "precisions", "folders", "weights"),
        "restorations",
    }
    assert all(("versions", name) in checks for name in LIBRARIES)


@pytest.mark.usefixtures("no_weights")
def test_quiet_says_nothing_where_all_is_well() -> None:
    assert run_cli("doctor", "-q").output == ""


@pytest.mark.usefixtures("no_weights")
def test_text_is_plain_ends_with_a_verdict_and_hides_the_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("DIFFIR_HOME", str(tmp_path / "diffir"))
    outcome = succeeded(run_cli("doctor"))
    assert outcome.stdout.endswith("all checks passed\n") and "\x1b" not in outcome.stdout
    assert "  cache: ~/diffir/cache is not there yet, can be made" in outcome.stdout
    assert "DIFFIR_HOME=~/diffir" in outcome.stdout
    assert str(tmp_path) not in outcome.output
    assert not (tmp_path / "diffir").exists()


@pytest.mark.usefixtures("no_weights")
def test_a_library_that_is_broken_is_one_line_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(LIBRARIES, "numpy", "no_such_module")
    outcome = run_cli("doctor")
    assert outcome.exit_code == 1
    assert "  numpy: failed: ModuleNotFoundError: No module named 'no_such_module'" in (
        outcome.stdout
    )
    assert outcome.stdout.endswith("failed: versions numpy\n") and "cpu fp32" in outcome.stdout


def test_damaged_and_missing_weights_are_found(elsewhere: Path) -> None:
    first, second = (elsewhere / f"{name}.safetensors" for name in ("sr-x4-lite", "deblur-lite"))
    first.unlink()
    first.write_bytes(b"nothing")
    second.unlink()
    checks = {(c.section, c.name): c for c in doctor_checks.check_weights()}
    assert "is damaged: its sha256 is" in checks["weights", "sr-x4-lite"].text
    assert "cannot read" in checks["weights", "deblur-lite"].text
    for name in ("sr-x4-lite", "deblur-lite"):
        assert checks["weights", name].state is State.FAILED
        assert checks["restorations", name].state is State.FAILED
    assert checks["restorations", "inpaint-lite"].state is State.OK


@pytest.mark.parametrize("error", [KeyError("x"), DiffIRError("no luck"), MemoryError()])
def test_whatever_a_check_raises_is_a_finding(error: Exception) -> None:
    def check() -> Any:
        raise error

    found = tried("section", "name", check)
    assert found.state is State.FAILED and found.line().startswith("name: failed: ")
    wording = "no luck" if isinstance(error, DiffIRError) else type(error).__name__
    assert wording in found.text


def test_a_number_format_that_computes_nonsense_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = ModelRunner.run

    def run(self: ModelRunner, *args: Any) -> Restored:
        found = real(self, *args)
        if found.precision is Precision.FP32:
            return found
        return replace(found, pixels=255 - found.pixels)

    monkeypatch.setattr(ModelRunner, "run", run)
    state, text = doctor_checks.check_precision("cpu", Precision.BF16)
    assert state is State.FAILED and "levels of 255 from that of the CPU" in text


def test_precisions_are_tried_and_not_only_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: ModelRunner, *_args: object) -> None:
        raise RuntimeError(f"no kernel for {self.options.precision.value}")

    monkeypatch.setattr(ModelRunner, "run", run)
    found = tried("precisions", "x", lambda: doctor_checks.check_precision("cpu", Precision.BF16))
    assert found.state is State.FAILED and found.text == "RuntimeError: no kernel for bf16"


def _black(hq: Any) -> Any:
    return np.zeros_like(hq)


def _cut(hq: Any) -> Any:
    return hq[:-1]


@pytest.mark.parametrize(
    ("change", "message"), [(_black, "levels of 255 from its input"), (_cut, "became 64×63")]
)
def test_a_result_that_cannot_be_right_is_a_failure(
    change: Callable[[Any], Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ModelRunner.run

    def run(self: ModelRunner, lq: Any, mask: Any = None) -> Restored:
        found = real(self, lq, mask=mask)
        return replace(found, pixels=change(found.pixels))

    monkeypatch.setattr(ModelRunner, "run", run)
    state, text = doctor_checks.check_restoration(find_weights("deblur-lite"))
    assert state is State.FAILED and message in text


def test_a_folder_that_cannot_be_made_or_written_is_a_failure_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DIFFIR_HOME", str(tmp_path / "file"))
    found = tried("folders", "cache", lambda: environment.check_folder(cache_folder))
    assert found.state is State.FAILED and "NotADirectoryError" in found.text
    state, text = environment.check_folder(lambda: tmp_path / "file" / "weights")
    assert state is State.FAILED and text.startswith(f"{tmp_path / 'file' / 'weights'}: ")


@pytest.mark.parametrize(("requested", "state"), [("cpu", State.OK), ("cuda:99", State.FAILED)])
def test_the_device_that_a_user_configured_is_tried(
    requested: str, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFIR_DEVICE", requested)
    monkeypatch.setattr(doctor_checks, "_PRECISIONS", [])
    checks = {check.name: check for check in doctor_checks.check_devices()}
    assert checks["DIFFIR_DEVICE"].state is state and requested in checks["DIFFIR_DEVICE"].text


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Check]:
    """Puts bytes where the weights of an official network belong, and tries them."""
    monkeypatch.setenv("DIFFIR_HOME", str(tmp_path))

    def check(data: bytes) -> Check:
        sha256 = hashlib.sha256(data).hexdigest()
        path = imported_path(MINE, sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        pin(MINE.name, imported=sha256)
        return tried("weights", MINE.name, lambda: doctor_checks._file(MINE))

    return check


def test_an_import_is_held_against_its_pin_and_opened(
    installed: Callable[[bytes], Check], s2_file: Path
) -> None:
    good = installed(s2_file.read_bytes())
    assert good.state is State.OK and good.text.startswith("verified, sha256")
    assert installed(b"0123456789").state is State.FAILED


def test_weights_that_cannot_be_read_are_not_called_absent(
    installed: Callable[[bytes], Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_path: Path) -> str:
        raise WeightsError("cannot read it")

    monkeypatch.setattr("diffir_cli.weights.cache.file_sha256", unreadable)
    found = installed(b"")
    assert found.state is State.FAILED and found.text == "cannot read it"


def test_what_libraries_print_does_not_spoil_the_json(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def noisy(_registry: object) -> Any:
        print("install numpy")  # noqa: T201
        os.write(1, b"from C\n")
        yield Check("versions", "numpy", State.OK, "2", 0.0)

    monkeypatch.setattr("diffir_cli.doctor.run_checks.run_checks", noisy)
    outcome = run_cli("doctor", "--json")
    assert json.loads(outcome.stdout)["ok"] and "install numpy" in outcome.stderr
    captured = capfd.readouterr()
    assert "from C" not in captured.out and "from C" in captured.err


def test_an_extra_that_is_not_installed_is_no_failure_and_has_a_hint() -> None:
    found = tried("extras", "ray", lambda: environment.check_extra("ray", ("no_such_module",)))
    assert found.state is State.ABSENT
    assert found.text == "without no_such_module; pip install 'diffir-cli[ray]'"


def test_all_extras_of_the_package_are_told() -> None:
    path = Path(__file__).parent.parent / "pyproject.toml"
    known = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(known) - {"dev"}


def test_an_installation_without_torch_is_told_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def broken(name: str, *args: Any, **others: Any) -> Any:
        if name.partition(".")[0] == "torch" or name.startswith("diffir_cli.runtime"):
            raise ImportError("libtorch_cpu.so: cannot open shared object file")
        return real(name, *args, **others)

    def module(name: str) -> Any:
        if name == "torch":
            raise ImportError("libtorch_cpu.so: cannot open shared object file")
        return loaded(name)

    loaded = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", module)
    monkeypatch.setattr(builtins, "__import__", broken)
    checks = list(run_checks())
    failed = {(check.section, check.name) for check in checks if check.state is State.FAILED}
    assert {("versions", "torch"), ("devices", "auto"), ("restorations", "sr-x4-lite")} <= failed
    reporter = {check.text.partition(":")[0] for check in failures(checks) if check.name != "torch"}
    assert reporter == {"could not be tried"}
    assert ("weights", "sr-x4-lite") not in failed
    assert checks[-1].section == "restorations"
