"""Weights files to named tensors, whatever wraps them, without running any pickle.

A pickle may name any function and have it called, so a weights file from the net is a program. It
goes through the reader and the unpickler of this package alone (`torch_files.py` and `unpickler.py`
say why torch's own are not used); and what a file holds must not take much more room than itself.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffir_cli.errors import CheckpointError, DeviceError
from diffir_cli.tensorfiles.torch_files import read_torch_file
from diffir_cli.tensorfiles.unpickler import UnreadableTensor
from diffir_cli.util.files import file_errors
from diffir_cli.util.out_of_memory import is_out_of_memory

_MORE_MEMORY = "close other programs, or use a machine with more memory"
_OTHER_FILE = "is it the file you meant? training states and discriminators are no networks"


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file under their own names, and the header of a safetensors file.

    Raises:
        CheckpointError: when the file cannot be read, is damaged, or holds no tensors.
        DeviceError: when it does not fit into memory.
    """
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is no regular file", _OTHER_FILE)
    unread = file_errors(f"cannot read {path}", "check its name and permissions", CheckpointError)
    with unread, path.open("rb") as file:
        start = file.read(9)
    # A safetensors file starts with the length of its JSON header, 8 bytes, and then the header.
    if start[8:9] == b"{":
        try:
            with _readable(path) as name, safe_open(name, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return tensors, dict(file.metadata() or {})
        except (SafetensorError, OSError, ValueError) as error:
            raise _unreadable(path, error) from error
    # A malformed file makes an unpickler raise almost anything.
    try:
        content = read_torch_file(path)
    except Exception as error:
        if is_out_of_memory(error):
            raise DeviceError(f"the memory is too small for {path}", _MORE_MEMORY) from error
        raise _unreadable(path, error) from error
    return _select(path, content), _header_of_state(content)


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """A name under which safetensors opens a file: it takes none that is no UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with TemporaryDirectory() as folder:
            link = Path(folder) / "weights.safetensors"
            link.symlink_to(path.absolute())
            yield link
    else:
        yield path


def parameter_names(path: Path) -> list[str]:
    """The names of the tensors in a file.

    Raises:
        CheckpointError: when the file cannot be read, is damaged, or holds no tensors.
    """
    return list(read_tensors(path)[0])


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = _recognised(path) or (str(error).strip().splitlines() or ["it is cut off"])[0]
    return CheckpointError(
        f"{path} is not a weights file, or it is damaged: {reason}",
        "is it the file you meant? compare its size with that of the original",
    )


def _select(path: Path, content: Any) -> dict[str, Tensor]:
    """The dict of tensors inside one of the official containers.

    Raises:
        CheckpointError: when there is none, or they are not plain numbers of the size of the file.
    """
    if isinstance(content, Mapping):
        # A state of this program's training has a digest of its recipe.
        levels = ("average",) if "digest" in content else ("params_ema", "params")
        for level in levels:
            if isinstance(content.get(level), Mapping):
                content = content[level]
                break
        else:
            if isinstance(content.get("state_dict"), Mapping):
                prefix = "generator."
                state = content["state_dict"]
                content = {
                    key.removeprefix(prefix): value
                    for key, value in state.items()
                    if key.startswith(prefix)
                } or state
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a dict of tensors", _OTHER_FILE
        )
    for key, value in content.items():
        if isinstance(value, UnreadableTensor):
            raise CheckpointError(f"{path} holds no plain numbers in {key!r}", _OTHER_FILE)
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path} has no tensors under a known name", _OTHER_FILE)
    for key, value in tensors.items():
        if not _is_plain(value):
            raise CheckpointError(f"{path} holds no plain numbers in {key!r}", _OTHER_FILE)
    unpacked = sum(value.numel() * value.element_size() for value in tensors.values())
    if unpacked > _TIMES * path.stat().st_size:
        raise CheckpointError(f"{path} repeats the same data many times", _OTHER_FILE)
    return tensors


_TIMES = 4
"""How often a number may stand in a file's tensors; in official files some stand twice."""


_OTHERS = {
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "packed by gzip",
    b"7z\xbc\xaf": "packed by 7-Zip",
    b"Rar!": "packed by RAR",
}
"""What else people take for weights, by its first bytes."""


def _recognised(path: Path) -> str:
    """What a file is that holds no weights; empty where that is not seen at once."""
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError:
        return ""
    if not start:
        return "it is empty"
    for mark, name in _OTHERS.items():
        if start.startswith(mark):
            return f"it is {name}"
    # What is in an archive is listed at its end; if that is damaged, its own error says more.
    with suppress(zipfile.BadZipFile, OSError):
        if start.startswith(b"PK\x03\x04") and not zipfile.is_zipfile(path):
            return "its end is missing"
    if b"<html" in start.lower() or b"<!doctype" in start.lower():
        return "it is a page of the web, saved in place of a download"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return "it is a text"
    return ""


def _header_of_state(content: Any) -> dict[str, str]:
    """What a training of this program says of its network."""
    config = content.get("config") if isinstance(content, Mapping) else None
    return {"config": config} if isinstance(config, str) else {}


def _is_plain(tensor: Tensor) -> bool:
    """Whether every element has its own number in memory, so that the file bounds its size."""
    return (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and not tensor.is_complex()
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )
