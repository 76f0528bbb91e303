"""What says what the colours are, besides profiles: kept, made a profile, or its loss named."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from diffir_cli.imaging import Picture, read_picture, write_picture
from diffir_cli.imaging.colours import profile_for, set_nclx
from diffir_cli.imaging.jxl import read_jxl_notes
from diffir_cli.imaging.metadata import Metadata
from diffir_cli.imaging.png import chunk
from diffir_cli.imaging.profiles import CURVES, PRIMARIES, SRGB, make_profile
from tests.conftest import noise_image

P3 = make_profile(PRIMARIES[12], CURVES[13], grey=False)


def _converted(icc: bytes | None, colour: tuple[int, ...]) -> tuple[int, ...]:
    """A colour of a profile in sRGB."""
    assert icc is not None
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    image = Image.new("L" if len(colour) == 1 else "RGB", (1, 1), colour)
    done = ImageCms.profileToProfile(
        image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert done is not None
    found = done.getpixel((0, 0))
    assert isinstance(found, tuple)
    return found


def _near(found: tuple[int, ...], expected: tuple[float, ...]) -> bool:
    return all(abs(one - other) <= 2 for one, other in zip(found, expected, strict=True))


def _srgb_of_linear(level: float) -> float:
    return 255 * (12.92 * level if level <= 0.0031308 else 1.055 * level ** (1 / 2.4) - 0.055)


def test_a_made_profile_means_what_its_numbers_say() -> None:
    assert _near(_converted(make_profile(SRGB, CURVES[13], False), (200, 90, 30)), (200, 90, 30))
    linear = make_profile(SRGB, (1.0,), False)
    expected = tuple(_srgb_of_linear(value / 255) for value in (200, 90, 30))
    assert _near(_converted(linear, (200, 90, 30)), expected)
    # Known values of Display P3 in sRGB.
    assert _near(_converted(P3, (100, 128, 100)), (92, 129, 97))
    grey = make_profile(SRGB, (1.0,), True)
    assert _near(_converted(grey, (90,)), (_srgb_of_linear(90 / 255),) * 3)


def test_a_profile_for_grey_becomes_one_for_colours_and_back() -> None:
    grey = make_profile(SRGB, (1.0,), True)
    assert grey is not None
    colours = profile_for(grey, grey=False)
    assert colours is not None and colours[16:20] == b"RGB "
    assert _converted(colours, (90, 90, 90)) == _converted(grey, (90,))
    back = profile_for(colours, grey=True)
    assert back is not None and _converted(back, (90,)) == _converted(grey, (90,))
    assert profile_for(grey, grey=True) is grey
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert profile_for(lab, grey=False) is None


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(
    ("ending", "dtype"), [(".webp", np.uint8), (".avif", np.uint8), (".tif", np.uint16)]
)
def test_grey_with_a_profile_looks_the_same_where_there_are_only_colours(
    ending: str, dtype: Any, alpha: bool, tmp_path: Path
) -> None:
    icc = make_profile(SRGB, (1.0,), True)
    white = int(np.iinfo(dtype).max)
    rgb = np.full((16, 16, 3), white // 3, dtype)
    plane = np.full((16, 16), white // 2, dtype) if alpha else None
    picture = Picture(rgb, plane, True, Metadata(icc=icc))
    write_picture(picture, tmp_path / f"out{ending}")
    back = read_picture(tmp_path / f"out{ending}", deep=True)
    assert back.metadata.icc is not None
    assert back.metadata.icc[16:20] == (b"GRAY" if back.grey else b"RGB ")
    level = round(255 / 3)
    colour = (level,) if back.grey else (level,) * 3
    assert _near(_converted(back.metadata.icc, colour), (_srgb_of_linear(1 / 3),) * 3)


def _png(path: Path, *chunks: tuple[bytes, bytes], grey: bool = False, deep: bool = False) -> Path:
    pixels = noise_image(9, 12)
    if grey:
        pixels = np.repeat(pixels[:, :, :1], 3, 2)
    write_picture(Picture(pixels.astype(np.uint16) * 257 if deep else pixels, None, grey), path)
    data = path.read_bytes()
    made = b"".join(chunk(*one) for one in chunks)
    path.write_bytes(data[:33] + made + data[33:])
    return path


LINEAR = (b"gAMA", struct.pack(">I", 100_000))
SRGB_GAMMA = (b"gAMA", struct.pack(">I", 45_455))
P3_CORNERS = (b"cHRM", struct.pack(">8I", *(round(100_000 * value) for value in PRIMARIES[12])))
SRGB_CORNERS = (b"cHRM", struct.pack(">8I", *(round(100_000 * value) for value in SRGB)))


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_gamma_of_a_png_becomes_a_profile(
    ending: str, grey: bool, deep: bool, restore: Any, tmp_path: Path
) -> None:
    path, out = _png(tmp_path / "in.png", LINEAR, grey=grey, deep=deep), tmp_path / f"out{ending}"
    assert restore(path, out).exit_code == 0
    icc = read_picture(out, deep=True).metadata.icc
    colour = (90,) if grey else (90, 90, 90)
    assert _near(_converted(icc, colour), (_srgb_of_linear(90 / 255),) * 3)


def test_primaries_of_a_png_become_a_profile(tmp_path: Path) -> None:
    icc = read_picture(_png(tmp_path / "in.png", SRGB_GAMMA, P3_CORNERS)).metadata.icc
    assert _near(_converted(icc, (100, 128, 100)), (92, 129, 97))
    coded = (b"cICP", bytes([12, 13, 0, 1]))
    icc = read_picture(_png(tmp_path / "in2.png", coded)).metadata.icc
    assert _near(_converted(icc, (100, 128, 100)), (92, 129, 97))


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"sRGB", b"\0"), SRGB_GAMMA, SRGB_CORNERS],
        [SRGB_GAMMA],
        [SRGB_GAMMA, SRGB_CORNERS],
        [(b"cICP", bytes([1, 13, 0, 1]))],
    ],
)
def test_what_says_srgb_is_nothing_special(
    chunks: Any, restore: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _png(tmp_path / "in.png", *chunks)
    found = read_picture(path).metadata
    assert found.icc is None and found.cicp is None
    for ending in (".jpg", ".bmp", ".png"):
        assert restore(path, tmp_path / f"o{ending}").exit_code == 0
    assert not caplog.text


@pytest.mark.parametrize("deep", [False, True])
def test_brightness_beyond_white_stays_said_or_is_named(
    deep: bool, restore: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _png(tmp_path / "in.png", (b"cICP", bytes([9, 16, 0, 1])), deep=deep)
    out = tmp_path / "out.png"
    assert restore(path, out).exit_code == 0
    assert b"cICP\x09\x10\0\x01" in out.read_bytes() and not caplog.text
    other = tmp_path / ("out.tif" if deep else "out.jpg")
    assert restore(path, other).exit_code == 0
    assert "its colours (BT.2020 primaries, PQ transfer)" in caplog.text


@pytest.mark.parametrize("numbers", [(12, 13), (9, 16)])
def test_numbers_of_an_avif_stay_said(
    numbers: tuple[int, int], restore: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, out = tmp_path / "in.avif", tmp_path / "out.avif"
    write_picture(Picture(noise_image(16, 16)), path)
    path.write_bytes(set_nclx(path.read_bytes(), (*numbers, True)))
    assert restore(path, out).exit_code == 0 and not caplog.text
    found = read_picture(out).metadata
    if numbers == (12, 13):
        assert _near(_converted(found.icc, (100, 128, 100)), (92, 129, 97))
    else:
        assert found.cicp == (9, 16, True) and found.icc is None


def test_heic_is_written_with_what_is_said_of_it(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[271] = "Kamera"
    rgb = np.full((64, 48, 3), (200, 90, 30), np.uint8)
    metadata = Metadata(P3, b"Exif\0\0" + exif.tobytes(), b"<x/>")
    write_picture(Picture(rgb, metadata=metadata), tmp_path / "out.heic")
    found = read_picture(tmp_path / "out.heic")
    assert found.format == "HEIF" and found.size == (48, 64)
    assert np.abs(found.rgb.astype(int) - rgb).max() <= 6
    assert found.metadata.icc == P3 and found.metadata.xmp == b"<x/>"
    assert b"Kamera" in (found.metadata.exif or b"")
    grey = Picture(np.full((64, 48, 3), 90, np.uint8), grey=True)
    write_picture(grey, tmp_path / "grey.heif")
    assert np.abs(read_picture(tmp_path / "grey.heif").rgb.astype(int) - 90).max() <= 3


def test_cmyk_is_converted_by_its_own_profile_and_loses_it(tmp_path: Path) -> None:
    image = Image.fromarray(noise_image(8, 8)).convert("CMYK")
    image.save(tmp_path / "in.jpg", icc_profile=bytes(16) + b"CMYK" + bytes(108), xmp=b"<x/>")
    found = read_picture(tmp_path / "in.jpg")
    # A profile that cannot be used leaves the plain conversion.
    assert found.metadata.icc is None and found.metadata.xmp == b"<x/>"
    assert not found.metadata.lost


def test_sixteen_bits_of_a_grey_jpeg_xl_are_kept(restore: Any, tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    grey = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    Image.fromarray(grey).save(tmp_path / "in.jxl", lossless=True)
    found = read_picture(tmp_path / "in.jxl", deep=True)
    assert found.deep and found.grey
    np.testing.assert_array_equal(found.rgb[:, :, 0], grey)
    out = tmp_path / "out.png"
    assert restore(tmp_path / "in.jxl", out).exit_code == 0
    assert read_picture(out, deep=True).deep


def _jxl_header(bits: int) -> bytes:
    """The first bytes of a JPEG XL stream of 16×16 pixels with that depth."""
    choice = {8: 0, 10: 1, 12: 2}.get(bits, 3)
    fields = [(1, 1), (1, 5), (1, 3), (0, 1), (0, 1), (0, 1), (choice, 2)]
    if choice == 3:
        fields.append((bits - 1, 6))
    value = place = 0
    for number, count in fields:
        value |= number << place
        place += count
    return b"\xff\x0a" + value.to_bytes(20, "little")


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_the_depth_of_a_jpeg_xl_is_read_from_its_header(bits: int) -> None:
    stream = _jxl_header(bits)
    assert read_jxl_notes(stream).bits == bits
    box = struct.pack(">I", len(stream) + 8) + b"jxlc" + stream
    boxes = b"\0\0\0\x0cJXL \r\n\x87\n" + box + b"\0\0\0\x0cxml <x/>"
    found = read_jxl_notes(boxes)
    assert found.bits == bits and found.xmp == b"<x/>"
