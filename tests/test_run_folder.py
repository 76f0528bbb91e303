"""The folder of a training: its saved state, its weights, and its lock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffir_cli.errors import CheckpointError, DeviceError, DiffIRError, InputError
from diffir_cli.training.loop import Trainer
from diffir_cli.training.recipe import digest
from diffir_cli.training.run_folder import run_folder
from diffir_cli.training.state import difference, identity, whole_state, write_state
from tests.conftest import noise_image
from tests.training_helpers import make_recipe, run_training


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (MemoryError(), DeviceError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), DeviceError),
        (OSError(5, "Input/output error"), InputError),
        (EOFError(), CheckpointError),
    ],
)
def test_a_state_that_cannot_be_read_now_is_not_called_damaged(
    fault: Exception, kind: type[DiffIRError], tmp_path: Path
) -> None:
    torch.save({}, tmp_path / "state.pt")
    with pytest.raises(kind) as caught, whole_state(tmp_path / "state.pt"):
        raise fault
    assert ("another folder" in caught.value.hint) is (kind is CheckpointError)


def test_only_fields_at_their_defaults_may_be_absent_from_a_state(photos: Path) -> None:
    recipe = make_recipe(photos)
    wanted = identity(recipe)
    older = {name: json.loads(text) for name, text in digest(recipe).items()}
    del older["data"]["windows"], older["data"]["window"], older["model"]["gated"]
    known = {**wanted, **{name: json.dumps(value) for name, value in older.items()}}
    assert known["data"] != wanted["data"] and difference(known, wanted) == ""
    changed = identity(make_recipe(photos, data={"batch": 2}))
    assert difference(known, changed) == "data"
    newer = dict(wanted, data=wanted["data"].replace('"windows": 1000', '"windows": 7'))
    assert newer["data"] != wanted["data"] and difference(known, newer) == "data"


@pytest.mark.parametrize("fault", ["damaged", "empty", "file in the way", "no log"])
def test_a_run_folder_that_cannot_be_used_is_named(
    fault: str, photos: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    if fault == "file in the way":
        run.touch()
    elif fault == "no log":
        (run / "log.csv").mkdir(parents=True)
    else:
        run.mkdir()
        (run / "state.pt").write_bytes(b"garbage" if fault == "damaged" else b"")
    with pytest.raises(DiffIRError, match="run") as caught:
        Trainer(make_recipe(photos), run, "cpu")
    assert caught.value.hint


def test_weights_without_a_state_are_set_aside_by_a_new_run(photos: Path, tmp_path: Path) -> None:
    recipe = make_recipe(photos)
    weights = run_training(recipe, tmp_path / "run")
    before = weights.read_bytes()
    (tmp_path / "run/state.pt").unlink()
    weights.with_suffix(".before.safetensors").write_bytes(b"of another run")
    Trainer(recipe, tmp_path / "run", "cpu")
    assert weights.with_suffix(".before.safetensors").read_bytes() == b"of another run"
    assert weights.with_suffix(".before1.safetensors").read_bytes() == before


def test_a_run_that_is_refused_leaves_weights_as_they_are(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    Image.fromarray(noise_image(4, 4)).save(tmp_path / "val/small.png")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/tiny.safetensors").write_bytes(b"weights")
    recipe = make_recipe(photos, validation={"gt": str(tmp_path / "val")})
    with pytest.raises(InputError, match="too small"):
        Trainer(recipe, tmp_path / "run", "cpu")
    assert (tmp_path / "run/tiny.safetensors").read_bytes() == b"weights"


def test_a_full_disk_while_a_state_is_written_is_one_error_and_keeps_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(tmp_path / "state.pt", {"a": 1})
    before = (tmp_path / "state.pt").read_bytes()

    def full(_state: object, _file: object) -> None:
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 851712 vs 851600")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"cannot write .*: No space left on device"):
        write_state(tmp_path / "state.pt", {"a": 2})
    assert (tmp_path / "state.pt").read_bytes() == before


def test_another_process_variable_does_not_open_a_folder_in_which_a_training_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with run_folder(tmp_path / "run"):
        assert (tmp_path / "run/.diffir-lock").exists()
