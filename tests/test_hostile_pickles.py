"""Hostile pickles in weights files: nothing but tensors comes out, in little time and memory."""

from __future__ import annotations

import resource
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from diffir_cli.errors import CheckpointError
from diffir_cli.models.diffir.checkpoint import load_model
from tests.processes import in_own_process
from tests.weights_helpers import refused_with


def test_a_pickle_with_a_huge_memo_index_takes_no_memory(tmp_path: Path) -> None:
    # PROTO 2, a name that is not known, LONG_BINPUT at 2³² − 1.
    evil = b"\x80\x02cvanished\nThing\nr\xff\xff\xff\xff."
    _pickled(tmp_path / "net.pth", evil)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "net.pth")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def _pickled(path: Path, program: bytes, storage: bytes = b"") -> None:
    """A file of torch's form around a program for unpicklers, and a storage of that content."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data/0", storage)
        file.writestr("net/data.pkl", program)
        file.writestr("net/version", "3")
        file.writestr("net/byteorder", "little")


@pytest.mark.parametrize(
    ("program", "wording"),
    [
        # Items, added to a tuple and to a dict.
        (b"\x80\x04)(K\x01e.", "are added to a tuple"),
        (b"\x80\x04}K\x01a.", "are added to a dict"),
        # A number that is called.
        (b"\x80\x02K\x01)R.", "a int is called"),
        (b"\x80\x02K\x01)\x81.", "a int is called"),
    ],
)
def test_a_pickle_that_wants_to_do_more_than_hold_something_is_refused(
    program: bytes, wording: str, tmp_path: Path
) -> None:
    _pickled(tmp_path / "net.pth", program)
    started = time.process_time()
    with pytest.raises(CheckpointError, match=wording):
        load_model(tmp_path / "net.pth")
    assert time.process_time() - started < 2


_LONG = b"]q\x00(" + b"K\x01" * 100_000 + b"e0"
"""A list of a hundred thousand numbers, remembered as 0."""

_STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
)

_TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"

_ROWS = _TENSOR + b"(" + _STORAGE + b"K\x00J\x80\xc3\xc9\x01K\x02\x86K\x00K\x00\x86\x89NtR"
"""A tensor of 30 million rows of the same number."""


def _colliding(form: Callable[[int], bytes]) -> bytes:
    """40,000 numbers of the same hash, each in a part of a pickle."""
    return b"".join(form(number * (2**61 - 1)) for number in range(1, 40_000))


def _again(name: bytes, call: bytes, times: int) -> bytes:
    """A pickle that calls something with the same long list, again and again."""
    return b"\x80\x02" + _LONG + name + b"q\x010](" + call * times + b"e."


def _nested(depth: int) -> bytes:
    """Arguments for a builder of tensors with attributes, which name that builder again."""
    name = b"ctorch._tensor\n_rebuild_from_type_v2\n"
    return name + (b"(" + name + b"N") * depth + b"()" + b"Nt" * depth


@pytest.mark.parametrize(
    "program",
    [
        # {((((), ()), ((), ())), …): 1}, whose hash takes 2⁴⁵ steps, and a set of it.
        b"\x80\x02})" + b"2\x86" * 45 + b"K\x01s.",
        b"\x80\x04()" + b"2\x86" * 45 + b"\x91.",
        # A long key, and numbers whose hashes collide.
        b"\x80\x02(" + b"N" * 100_000 + b"tq\x000}" + b"h\x00Ns" * 1000 + b".",
        b"\x80\x02}(" + _colliding(lambda n: b"\x8a\x0b" + n.to_bytes(11, "little") + b"N") + b"u.",
        b"\x80\x02" + _colliding(lambda n: b"Np%d\n0" % n) + b"}.",
        # What is copied again and again.
        _again(b"ctorch\nSize\n", b"h\x01h\x00\x85R", 4000),
        _again(b"ccollections\nOrderedDict\n", b"h\x01h\x00\x85R", 4000),
        _again(_TENSOR, b"h\x01(" + _STORAGE + b"K\x00h\x00h\x00tR", 1000),
        # A tensor that is taken for a list of its rows.
        b"\x80\x02ccollections\nOrderedDict\n" + _ROWS + b"\x85R.",
        b"\x80\x02ctorch\nSize\n" + _ROWS + b"R.",
        # The same as the part of a storage that is meant.
        b"\x80\x02" + _STORAGE[:-2] + _TENSOR + b"(" + _STORAGE + b"K\x00J\x80\x96\x98\x00K\x00\x86"
        b"K\x00K\x00\x86\x89NtRtQ.",
        # Tensors with attributes in each other, and sets.
        b"\x80\x02" + _nested(400) + b"\x85q\x000](" + b"h\x00R" * 10_000 + b"e.",
        b"\x80\x04](" + b"\x8f" * 1_000_000 + b"e.",
        # Many names of nothing, and bytes that are not there.
        b"\x80\x02](" + b"c\n\n" * 300_000 + b"e.",
        b"\x80\x05\x96\x00\x00\x00\x00\x01\x00\x00\x00.",
    ],
    ids=lambda program: f"{len(program)} bytes",
)
def test_a_small_pickle_takes_neither_long_nor_much_memory(program: bytes, tmp_path: Path) -> None:
    _pickled(tmp_path / "net.pth", program, bytes(16))
    message, taken, seconds = in_own_process(_cost_of, tmp_path / "net.pth")
    assert "net.pth" in message
    assert taken < 2**27 and seconds < 5


def _cost_of(path: Path) -> tuple[str, int, float]:
    started = time.process_time()
    message, taken = refused_with(path)
    return message, taken, time.process_time() - started


def test_a_dict_cannot_be_given_methods_of_a_pickle(tmp_path: Path) -> None:
    # OrderedDict() with the state {"items": 5, "get": 5}.
    state = b"}(X\x05\x00\x00\x00itemsK\x05X\x03\x00\x00\x00getK\x05ub."
    program = b"\x80\x02ccollections\nOrderedDict\n)R" + state
    _pickled(tmp_path / "net.pth", program)
    with pytest.raises(CheckpointError, match="no tensors"):
        load_model(tmp_path / "net.pth")


@pytest.mark.parametrize("name", ["builtins\nbytearray", "torch\nFloatTensor", "torch\nTensor"])
def test_a_length_without_content_takes_no_memory(name: str, tmp_path: Path) -> None:
    # Called with 2³¹ − 1.
    _pickled(tmp_path / "net.pth", b"\x80\x02c" + name.encode() + b"\nJ\xff\xff\xff\x7f\x85R.")
    message, taken = in_own_process(refused_with, tmp_path / "net.pth")
    assert "not a dict of tensors" in message
    # Some of it is modules that are imported on the way, none of it the 2 GiB of the length.
    assert taken < 2**26
