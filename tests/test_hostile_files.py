"""Damaged and hostile weights files: one clear error, nothing run, little memory."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import re
import resource
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

import diffir_cli
from diffir_cli.errors import CheckpointError
from diffir_cli.models.diffir.checkpoint import load_model, save_weights
from diffir_cli.models.diffir.networks import DiffIRS2
from tests.processes import in_own_process
from tests.weights_helpers import refused_with


class _Bomb:
    """Unpickling it would create a file, by one of three ways."""

    def __init__(self, way: str, marker: Path) -> None:
        self.way, self.marker = way, marker

    def __reduce__(self) -> tuple[Any, ...]:
        return {
            "a method": (Path.touch, (self.marker,)),
            "eval": (eval, (f"open({str(self.marker)!r}, 'w')",)),
            "a shell": (os.system, (f"touch '{self.marker}'",)),
        }[self.way]


@pytest.mark.parametrize("way", ["a method", "eval", "a shell"])
@pytest.mark.parametrize("place", ["beside", "inside", "whole", "old format", "plain pickle"])
def test_no_pickle_is_executed(way: str, place: str, s2: DiffIRS2, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    evil = _Bomb(way, marker)
    content: Any = {"params": s2.state_dict(), "extra": evil}
    if place == "inside":
        content = {"params": {**s2.state_dict(), "G.extra": evil}}
    if place == "whole":
        content = evil
    if place == "plain pickle":
        path.write_bytes(pickle.dumps({"params": evil}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=place != "old format")
    try:
        model = load_model(path)
    except CheckpointError:
        pass
    else:
        assert isinstance(model, DiffIRS2)
    assert not marker.exists()


class _Program(torch.nn.Module):
    """As TorchScript, loading it would overwrite a file."""

    def __init__(self, marker: str) -> None:
        super().__init__()
        self.marker = marker

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return (self.marker, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        written = torch.from_file(state[0], True, 8, dtype=torch.uint8).fill_(65)
        # Without a use of its result, this call would be optimised away.
        assert int(written.sum()) > 0
        self.marker = state[0]
        self.training = state[1]

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_in_a_weights_file_is_not_executed(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    torch.jit.save(torch.jit.script(_Program(str(marker))), tmp_path / "program.pt")
    # torch compresses the source of the program. It also loads archives where that is not so.
    with zipfile.ZipFile(tmp_path / "program.pt") as whole, zipfile.ZipFile(path, "w") as stored:
        for name in whole.namelist():
            stored.writestr(name, whole.read(name))
    with pytest.raises(CheckpointError, match="TorchScript program"):
        load_model(path)
    assert not marker.exists()
    torch.jit.load(path)
    assert marker.read_bytes() == b"A" * 8


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.SYMTYPE])
def test_a_tar_archive_is_refused_and_not_unpacked(kind: bytes, tmp_path: Path) -> None:
    member = tarfile.TarInfo("storages")
    member.type, member.linkname = kind, str(tmp_path / "secret")
    with tarfile.open(tmp_path / "net.pth", "w") as archive:
        archive.addfile(member)
    with pytest.raises(CheckpointError, match="not a weights file"):
        load_model(tmp_path / "net.pth")


def test_files_of_others_are_never_given_to_the_loader_of_torch() -> None:
    package = Path(diffir_cli.__file__).parent
    callers = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"torch\.(jit\.)?load\(", path.read_text())
    ]
    assert callers == ["training/state.py"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(share: float, s2: DiffIRS2, tmp_path: Path) -> None:
    save_weights(tmp_path / "whole.safetensors", s2, {})
    torch.save(s2.state_dict(), tmp_path / "whole.pth")
    for whole in (tmp_path / "whole.safetensors", tmp_path / "whole.pth"):
        data = whole.read_bytes()
        whole.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(CheckpointError):
            load_model(whole)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"params": {"conv.weight": torch.zeros(3)}}, "not a DiffIR network"),
        ({"params": {}}, "no tensors"),
        ([torch.zeros(3)], "not a dict"),
        ({"params": {"E.E.0.weight": torch.zeros(3)}}, "does not show which"),
    ],
)
def test_a_file_of_something_else_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "net.pth")


def test_weights_that_are_not_numbers_are_refused(s2: DiffIRS2, tmp_path: Path) -> None:
    state = {key: value.clone() for key, value in s2.state_dict().items()}
    state["cpen.mlp.0.bias"][3] = float("nan")
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"NaN or infinite numbers in 'cpen\.mlp\.0\.bias'"):
        load_model(tmp_path / "net.pth")


def _with(state: dict[str, Tensor], key: str, value: Tensor) -> dict[str, Any]:
    return {"params": {**state, key: value}}


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(1).expand(10**14),
        torch.zeros(3, device="meta"),
        torch.zeros(3, 3).to_sparse(),
        torch.zeros(3, dtype=torch.complex64),
    ],
)
def test_tensors_that_are_no_plain_numbers_are_refused(
    value: Tensor, s2: DiffIRS2, tmp_path: Path
) -> None:
    torch.save(_with(s2.state_dict(), "cpen.mlp.0.bias", value), tmp_path / "net.pth")
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "net.pth")


def test_a_compressed_file_is_refused_before_it_grows(tmp_path: Path) -> None:
    torch.save({"params": {"G.x": torch.zeros(10**7)}}, tmp_path / "net.pth")
    with zipfile.ZipFile(tmp_path / "net.pth") as whole:
        records = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in records.items():
            packed.writestr(name, data)
    with pytest.raises(CheckpointError, match="is compressed"):
        load_model(tmp_path / "bomb.pth")


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_blocks", [10**9, 1, 1, 1]), ("ffn_expansion", 1e-9), ("steps", 10**9), ("dim", 10**9)],
)
def test_an_absurd_configuration_in_a_header_is_refused(
    field: str, value: object, s2: DiffIRS2, tmp_path: Path
) -> None:
    path = tmp_path / "net.safetensors"
    header = {"config": json.dumps({**s2.config.to_dict(), field: value})}
    path.write_bytes(save(s2.state_dict(), header))
    with pytest.raises(CheckpointError, match="broken configuration"):
        load_model(path)


FUZZED = int(os.environ.get("DIFFIR_FUZZED", "120"))
"""Damaged files of each kind."""
SEED = int(os.environ.get("DIFFIR_FUZZ_SEED", "0"))


def _damaged(data: bytes, rng: random.Random) -> bytes:
    """A file with some bits turned over, a part overwritten, or its end cut off."""
    kind = rng.randrange(3)
    if kind == 0:
        return data[: rng.randrange(len(data))]
    broken = bytearray(data)
    # The head of the one kind and the tail of the other say what the numbers in between are.
    place = rng.choice([rng.randrange(min(4096, len(data))), rng.randrange(len(data)), -1])
    if place < 0:
        place = len(data) - 1 - rng.randrange(min(4096, len(data)))
    if kind == 1:
        for _ in range(rng.randint(1, 16)):
            near = min(len(data) - 1, place + rng.randrange(64))
            broken[near] ^= 1 << rng.randrange(8)
    else:
        part = rng.randbytes(rng.randint(1, 32))
        broken[place : place + len(part)] = part
    return bytes(broken)


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_a_damaged_file_is_one_error_or_a_network_and_takes_little_memory(
    kind: str, s2: DiffIRS2, tmp_path: Path
) -> None:
    path = tmp_path / f"net.{kind}"
    if kind == "pth":
        torch.save({"params_ema": s2.state_dict()}, path)
    else:
        save_weights(path, s2, {})
    whole, rng = path.read_bytes(), random.Random(SEED)
    load_model(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for _ in range(FUZZED):
        path.write_bytes(_damaged(whole, rng))
        started = time.process_time()
        try:
            assert isinstance(load_model(path), DiffIRS2)
        except CheckpointError as error:
            refused += 1
            assert error.message.count("\n") == 0
        assert time.process_time() - started < 5
    # A bit of a weight that is turned over gives another weight, which only a hash can tell.
    assert FUZZED // 3 < refused < FUZZED
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_file_of_the_old_format_cannot_claim_more_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    tensor = torch.zeros(10**6)
    torch.save({"params": {"G.x": tensor}}, path, _use_new_zipfile_serialization=False)
    claimed = (10**6).to_bytes(3, "little")
    path.write_bytes(path.read_bytes().replace(b"J" + claimed + b"\0", b"J\xff\xff\xff\x7f"))
    message, taken = in_own_process(refused_with, path)
    assert "larger than the file" in message
    assert taken < 2**26


def test_many_views_of_few_numbers_take_no_memory(tmp_path: Path) -> None:
    numbers = torch.zeros(2_000_000, dtype=torch.uint8)
    torch.save({f"G.{name}": numbers[:] for name in range(200)}, tmp_path / "net.pth")
    message, taken = in_own_process(refused_with, tmp_path / "net.pth")
    assert "repeats the same data" in message
    assert taken < 100_000 * 1024


def test_overlapping_records_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data.pkl", b"\x80\x02}.")
        file.writestr("net/data/0", bytes(2**20))
        first = file.infolist()[-1]
        for number in range(1, 60):
            partner = copy.copy(first)
            partner.filename = f"net/data/{number}"
            file.filelist.append(partner)
            file.NameToInfo[partner.filename] = partner
    with pytest.raises(CheckpointError, match="overlap"):
        load_model(path)


def test_a_network_of_a_thousand_blocks_is_not_built_for_a_small_file(
    s2: DiffIRS2, tmp_path: Path
) -> None:
    path = tmp_path / "net.safetensors"
    config = {**s2.config.to_dict(), "num_blocks": [1024] * 4, "refinement_blocks": 1024}
    path.write_bytes(save(s2.state_dict(), {"config": json.dumps(config)}))
    started = time.process_time()
    with pytest.raises(CheckpointError, match="does not fit the network"):
        load_model(path)
    assert time.process_time() - started < 2


def test_a_header_nested_without_end_is_refused(s2: DiffIRS2, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(save(s2.state_dict(), {"config": "[" * 200_000}))
    with pytest.raises(CheckpointError, match="broken configuration"):
        load_model(path)
