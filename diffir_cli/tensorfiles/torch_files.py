"""Files written by `torch.save`, in its zip format and in the older one, read without `torch.load`.

`torch.load` runs code of a file whatever unpickler it is given: an archive with a record named
`constants.pkl` goes to the interpreter of TorchScript, and a tar archive of the oldest format is
unpacked, links and pipes included. Here a file is a pickle that `unpickler.InertUnpickler` reads,
and the bytes of its tensors.
"""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections.abc import Callable, Collection
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from diffir_cli.tensorfiles.unpickler import InertUnpickler, StandIn

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
"""What the older format begins with, each in a pickle of its own."""

_CHUNK = 2**20


def read_torch_file(path: Path) -> Any:
    """The content of a file: containers, numbers, texts and tensors on the CPU.

    Raises:
        UnpicklingError, BadZipFile: when it is of neither format, compressed, or larger than it
            seems; and almost anything else when it is malformed.
    """
    with path.open("rb") as file:
        # Of a damaged archive too, `is_zipfile` may raise anything.
        read = _read_zip if zipfile.is_zipfile(file) else _read_old
        file.seek(0)
        return read(file, path.stat().st_size)


def _read_zip(file: IO[bytes], size: int) -> Any:
    with zipfile.ZipFile(file) as archive:
        records = {record.filename: record for record in archive.infolist()}
        _check_records(archive.infolist(), size)
        folder = next(iter(records), "").split("/")[0]
        if f"{folder}/constants.pkl" in records:
            raise pickle.UnpicklingError("it is a TorchScript program, not a file of tensors")
        order = "little"
        if f"{folder}/byteorder" in records:
            order = _content(file, records[f"{folder}/byteorder"]).read().decode()
        storages: dict[str, Tensor] = {}

        def storage(key: str, _nbytes: int, dtype: torch.dtype) -> Tensor:
            if key not in storages:
                record = records[f"{folder}/data/{key}"]
                found = torch.empty(record.file_size, dtype=torch.uint8)
                _fill(found, _content(file, record))
                storages[key] = _in_order(found, dtype, order)
            return storages[key]

        if f"{folder}/data.pkl" not in records:
            raise pickle.UnpicklingError("it is a zip archive of something else")
        # Read as a whole, since the file is then read elsewhere, for the storages.
        pickled = _content(file, records[f"{folder}/data.pkl"]).read()
        return _StorageUnpickler(BytesIO(pickled), storage).load()


class _Part:
    """A part of a file: no pickle reads beyond it or allocates more than it has."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def read(self, count: int = -1) -> bytes:
        """As many bytes as there are, at most `count`."""
        data = self._file.read(self._left if count < 0 else min(count, self._left))
        self._left -= len(data)
        return data

    def readline(self) -> bytes:
        """The bytes up to the end of a line."""
        data = self._file.readline(self._left)
        self._left -= len(data)
        return data


def _content(file: IO[bytes], record: zipfile.ZipInfo) -> _Part:
    """What a record holds. Its checksum is not looked at, since torch may write files without."""
    file.seek(record.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\3\4":
        raise zipfile.BadZipFile("one of its records is missing")
    # Behind the header come the name and an extra field.
    file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
    return _Part(file, record.file_size)


def _check_records(records: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse an archive that grows on reading: torch stores its records as they are."""
    for record in records:
        if record.compress_type:
            raise pickle.UnpicklingError(f"its record {record.filename!r} is compressed")
    if sum(record.file_size for record in records) > size:
        raise pickle.UnpicklingError("its records overlap")


def _read_old(file: IO[bytes], size: int) -> Any:
    """The format before torch 1.6: pickles one after another, then the bytes of all storages."""
    part = _Part(file, size)
    if _plain(part) != _MAGIC or _plain(part) != _PROTOCOL:
        raise pickle.UnpicklingError("torch did not write it")
    _plain(part)  # The machine that wrote it; its numbers are little-endian all the same.
    storages: dict[str, tuple[Tensor, torch.dtype]] = {}
    claimed = 0

    def storage(key: str, nbytes: int, dtype: torch.dtype) -> Tensor:
        nonlocal claimed
        if key not in storages:
            claimed += nbytes
            if claimed > size:
                raise pickle.UnpicklingError("its tensors are larger than the file")
            storages[key] = torch.empty(nbytes, dtype=torch.uint8), dtype
        return storages[key][0]

    content = _StorageUnpickler(part, storage, storages_follow=True).load()
    keys = _plain(part)
    if not _are_keys(keys, storages):
        raise pickle.UnpicklingError("its list of storages is damaged")
    for key in keys:
        numbers, dtype = storages[key]
        count = int.from_bytes(part.read(8), "little")
        if count * dtype.itemsize != numbers.numel():
            raise pickle.UnpicklingError(f"its storage {key!r} has another size than its tensors")
        _fill(numbers, part)
        _in_order(numbers, dtype, "little")
    return content


def _are_keys(found: Any, wanted: Collection[str]) -> bool:
    """Whether a list from a file has each of some keys once and nothing else."""
    if type(found) is not list or len(found) != len(wanted):
        return False
    return all(type(key) is str for key in found) and set(found) == set(wanted)


def _plain(file: _Part) -> Any:
    return InertUnpickler(file, encoding="utf-8").load()


def _fill(numbers: Tensor, file: _Part) -> None:
    """Read the bytes of a storage, uint8."""
    place = 0
    while place < numbers.numel():
        part = file.read(min(_CHUNK, numbers.numel() - place))
        if not part:
            raise EOFError("it is cut off")
        numbers[place : place + len(part)] = torch.frombuffer(bytearray(part), dtype=torch.uint8)
        place += len(part)


def _in_order(numbers: Tensor, dtype: torch.dtype, order: str) -> Tensor:
    """Swap the bytes of each element in place, if a machine of the other byte order wrote them."""
    if order not in ("little", "big"):
        raise pickle.UnpicklingError("its byte order is unknown")
    if order != sys.byteorder and dtype.itemsize > 1:
        numbers.untyped_storage().byteswap(dtype)
    return numbers


class _StorageUnpickler(InertUnpickler):
    """An unpickler that gets the bytes of tensors from elsewhere in the file.

    Args:
        file: The pickle.
        storage: The bytes of a storage, uint8, by its key, its size in bytes, and the type of its
            numbers.
        storages_follow: Whether all storages stand behind the pickle, so that none can be left out.
    """

    def __init__(
        self,
        file: BytesIO | _Part,
        storage: Callable[[str, int, torch.dtype], Tensor],
        storages_follow: bool = False,
    ) -> None:
        super().__init__(file, encoding="utf-8")
        self._storage, self._storages_follow = storage, storages_follow

    def persistent_load(self, pid: Any) -> Any:
        """The numbers of a storage or of a part of it, 1-D; inert for types that no network has.

        Raises:
            UnpicklingError: when it is no reference to a storage.
        """
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] not in ("storage", b"storage"):
            raise pickle.UnpicklingError("it refers to something other than tensors")
        _, dtype, key, _, count = pid[:5]
        if not isinstance(dtype, torch.dtype):
            if self._storages_follow:
                raise pickle.UnpicklingError("it has numbers of an unknown type")
            return StandIn()
        if type(key) is not str or type(count) is not int or count < 0:
            raise pickle.UnpicklingError("it has a malformed tensor")
        numbers = self._storage(key, count * dtype.itemsize, dtype).view(dtype)
        if len(pid) == 5 or pid[5] is None:
            return numbers
        # A storage that is a part of another one.
        view = pid[5]
        if type(view) is not tuple or len(view) != 3 or {type(view[1]), type(view[2])} != {int}:
            raise pickle.UnpicklingError("it has a malformed storage")
        _, begin, length = view
        if not 0 <= begin <= begin + length <= count:
            raise pickle.UnpicklingError("it has a malformed storage")
        return numbers[begin : begin + length]
