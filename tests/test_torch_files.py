"""Files of `torch.save`, in both formats, read as torch itself reads them."""

from __future__ import annotations

import copy
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffir_cli.tensorfiles.containers import read_tensors
from diffir_cli.tensorfiles.torch_files import read_torch_file

NUMBERS = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(torch.complex64, torch.complex128),
]


def _with_attribute(tensor: Tensor) -> Tensor:
    tensor.origin = "somewhere"  # type: ignore[attr-defined]
    return tensor


def _tensors() -> dict[str, Tensor]:
    grid = torch.arange(20.0).reshape(4, 5)
    return {
        **{str(kind): (grid * 0.5).to(kind) for kind in NUMBERS},
        "transposed": grid.t(),
        "part": grid[1:3, ::2],
        "tied": grid,
        "tied again": grid,
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(3.5),
        "parameter": nn.Parameter(grid.clone()),
        "with gradient": grid.clone().requires_grad_(),
        "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "tensor with an attribute": _with_attribute(torch.ones(3)),
        "parameter with an attribute": _with_attribute(nn.Parameter(torch.ones(3))),
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.filterwarnings("ignore:.*TypedStorage:UserWarning")
def test_tensors_of_all_kinds_equal_those_of_torch(
    zipped: bool, protocol: int, tmp_path: Path
) -> None:
    path, saved = tmp_path / "a.pth", _tensors()
    torch.save(saved, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    found = read_torch_file(path)
    assert list(found) == list(saved)
    for name, expected in torch.load(path, weights_only=False).items():
        assert found[name].dtype == expected.dtype and found[name].stride() == expected.stride()
        assert torch.equal(found[name], expected), name


def test_a_state_dict_among_other_content_is_found_whole(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    state = network.state_dict()
    whole = {"state_dict": state, "optimizer": optimizer.state_dict(), "epoch": 3, ("a", 1): {2}}
    torch.save(whole, tmp_path / "a.ckpt")
    found, _ = read_tensors(tmp_path / "a.ckpt")
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(5.0)}, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert read_torch_file(tmp_path / "a.pth")["a"].tolist() == [0, 1, 2, 3, 4]


def test_numbers_of_a_machine_of_another_byte_order_are_turned_round(tmp_path: Path) -> None:
    expected = torch.arange(6, dtype=torch.float32)
    torch.save({"a": expected}, tmp_path / "little.pth")
    turned = copy.deepcopy(expected)
    turned.untyped_storage().byteswap(torch.float32)
    with (
        zipfile.ZipFile(tmp_path / "little.pth") as little,
        zipfile.ZipFile(tmp_path / "big.pth", "w") as big,
    ):
        for name in little.namelist():
            data = little.read(name)
            if name.endswith("byteorder"):
                data = b"big"
            elif "/data/" in name:
                data = turned.numpy().tobytes()
            big.writestr(name, data)
    assert torch.equal(read_torch_file(tmp_path / "big.pth")["a"], expected)


def _old_file(
    path: Path, view: bytes = b"N", builder: bytes = b"_rebuild_tensor_v2", keys: Any = ("0",)
) -> None:
    """A file of the format before torch 1.6 with the tensor `w` of three of the numbers 0 to 5."""
    buffer = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(part, buffer, 2)
    storage = b"".join([_text("storage"), b"ctorch\nFloatStorage\n", _text("0"), _text("cpu")])
    buffer.write(b"\x80\x02}" + _text("w") + b"ctorch._utils\n" + builder + b"\n((" + storage)
    last = b"" if builder == b"_rebuild_tensor" else b"\x89N"
    buffer.write(b"K\x06" + view + b"tQK\x00K\x03\x85K\x01\x85" + last + b"tRs.")
    pickle.dump(list(keys), buffer, 2)
    buffer.write(struct.pack("<q", 6) + struct.pack("<6f", *range(6)))
    path.write_bytes(buffer.getvalue())


def _text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


@pytest.mark.parametrize(
    ("view", "expected"),
    [(b"N", [0.0, 1.0, 2.0]), (b"(" + _text("1") + b"K\x02K\x03t", [2.0, 3.0, 4.0])],
)
def test_a_storage_of_the_old_format_may_be_a_part_of_another(
    view: bytes, expected: list[float], tmp_path: Path
) -> None:
    _old_file(tmp_path / "a.pth", view)
    assert read_torch_file(tmp_path / "a.pth")["w"].tolist() == expected


def test_files_of_torch_before_version_4_are_read(tmp_path: Path) -> None:
    _old_file(tmp_path / "a.pth", builder=b"_rebuild_tensor")
    assert read_torch_file(tmp_path / "a.pth")["w"].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("keys", [(), ("0", "0"), ("1",)])
def test_a_tensor_whose_numbers_are_missing_is_refused(keys: Any, tmp_path: Path) -> None:
    _old_file(tmp_path / "a.pth", keys=keys)
    with pytest.raises(pickle.UnpicklingError, match="list of storages is damaged"):
        read_torch_file(tmp_path / "a.pth")


def test_a_part_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    _old_file(tmp_path / "a.pth", b"(" + _text("1") + b"K\x04K\x03t")
    with pytest.raises(pickle.UnpicklingError, match="malformed storage"):
        read_torch_file(tmp_path / "a.pth")
