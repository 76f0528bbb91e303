"""Files that end too early, and what stands behind the pixels of a PNG."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diffir_cli.errors import InputError
from diffir_cli.imaging import Picture, encode, format_of, read_picture
from diffir_cli.imaging.png import chunk
from diffir_cli.imaging.probe import probe_picture
from tests.conftest import noise_image, run_cli


def _deep_file(kind: str, pixels: NDArray[np.uint16]) -> bytes:
    if kind == "interlaced":
        # The rows of all passes one after the other, none of them filtered.
        steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4)]
        steps += [(1, 0, 2, 2), (0, 1, 1, 2)]
        rows = b"".join(
            b"\0" + row.astype(">u2").tobytes()
            for left, top, across, down in steps
            for row in pixels[top::down, left::across]
            if row.size
        )
        height, width = pixels.shape[:2]
        header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 1)
        parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    file = io.BytesIO()
    encode(Picture(pixels), format_of(Path(f"x.{kind}")), file)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["png", "interlaced"])
@pytest.mark.parametrize("command", ["restore", "batch"])
def test_a_deep_file_that_ends_early_gives_what_there_is(
    command: str, kind: str, s2_file: Path, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 65_536, (30, 20, 3)).astype(np.uint16)
    whole = _deep_file(kind, pixels)
    source = tmp_path / "deep.png"
    source.write_bytes(whole[: len(whole) * 3 // 4])
    found = read_picture(source, True, allow_truncated=True)
    assert found.deep and found.size == (20, 30)
    np.testing.assert_array_equal(read_picture(tmp_path / "x", True, data=whole).rgb, pixels)
    rows = slice(0, 20) if kind == "png" else slice(0, None, 4)
    np.testing.assert_array_equal(found.rgb[rows], pixels[rows])
    (tmp_path / "out").mkdir()
    where = tmp_path / "out" / ("deep.png" if command == "restore" else "")
    arguments = (command, source, "-o", where, "-w", s2_file)
    assert run_cli(*arguments).exit_code == 3 and not list((tmp_path / "out").glob("*.png"))
    assert run_cli(*arguments, "--allow-truncated").exit_code == 0
    assert read_picture(tmp_path / "out" / "deep.png", True).rgb.shape == (120, 80, 3)
    if command == "batch":
        plan = run_cli("batch", source, "-o", tmp_path / "new", "-w", s2_file, "--dry-run")
        assert "1 will fail" in plan.stderr


def test_a_plain_deep_tiff_that_ends_early_gives_what_there_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65_536, (30, 20)).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.tif")
    data = (tmp_path / "deep.tif").read_bytes()
    (tmp_path / "deep.tif").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError):
        read_picture(tmp_path / "deep.tif", True)
    found = read_picture(tmp_path / "deep.tif", True, allow_truncated=True).rgb
    np.testing.assert_array_equal(found[:13, :, 0], pixels[:13])


def test_a_batch_takes_what_restore_takes_of_a_file_that_ends_early(
    s2_file: Path, tmp_path: Path
) -> None:
    Image.fromarray(noise_image(24, 24)).save(tmp_path / "in.png")
    data = (tmp_path / "in.png").read_bytes()
    (tmp_path / "in.png").write_bytes(data[: len(data) // 2])
    arguments = (tmp_path / "in.png", "-w", s2_file, "--allow-truncated", "-o")
    assert run_cli("restore", *arguments, tmp_path / "one.png").exit_code == 0
    assert "0 will fail" in run_cli("batch", *arguments, tmp_path / "out", "--dry-run").stderr
    assert run_cli("batch", *arguments, tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / "in.png").read_bytes() == (tmp_path / "one.png").read_bytes()


@pytest.mark.parametrize("kind", [b"eXIf", b"tEXt", b"iTXt"])
def test_what_stands_behind_the_pixels_is_known_without_decoding_them(
    kind: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.png"
    Image.fromarray(noise_image(8, 12)).save(path)
    exif = Image.Exif()
    exif[0x0112] = 6
    text = {
        b"eXIf": exif.tobytes().removeprefix(b"Exif\0\0"),
        b"tEXt": b"Raw profile type exif\0\nexif\n      32\n" + exif.tobytes().hex().encode(),
        b"iTXt": b'XML:com.adobe.xmp\0\0\0\0\0<a tiff:Orientation="6"/>',
    }[kind]
    data = path.read_bytes()
    path.write_bytes(data[:-12] + chunk(kind, text) + data[-12:])
    assert read_picture(path).size == (8, 12)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert probe_picture(path, 1000).size == (8, 12)
