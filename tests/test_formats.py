"""Formats: what each holds is kept in it, what it cannot hold is refused before the work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from diffir_cli.errors import InputError
from diffir_cli.imaging import Picture, format_like, format_of, read_picture, write_picture
from diffir_cli.imaging.metadata import Metadata
from tests.conftest import noise_image, run_cli

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


def _exif() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Kamera"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] = 0.5
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAltitude] = 120.0
    return b"Exif\0\0" + exif.tobytes()


def _picture(channels: int, kind: Any) -> Picture:
    white = int(np.iinfo(kind).max)
    draw = np.random.default_rng(channels).integers(0, white + 1, (9, 13, 4)).astype(kind)
    grey = channels < 3
    rgb = np.repeat(draw[:, :, :1], 3, axis=2) if grey else draw[:, :, :3]
    alpha = None if channels % 2 else draw[:, :, 3]
    return Picture(rgb, alpha, grey, Metadata(ICC, _exif(), XMP, "diffir test"))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_tiff_loses_neither_pixels_nor_what_is_said(
    channels: int, kind: Any, tmp_path: Path
) -> None:
    before, path = _picture(channels, kind), tmp_path / "out.tif"
    write_picture(before, path)
    after = read_picture(path, deep=True)
    np.testing.assert_array_equal(after.rgb, before.rgb)
    assert after.deep is before.deep and after.format == "TIFF"
    # A grey TIFF with alpha in 16 bits is more than Pillow reads, so that it becomes RGBA.
    assert after.grey is (before.grey and not (channels == 2 and kind is np.uint16))
    if before.alpha is not None:
        assert after.alpha is not None
        np.testing.assert_array_equal(after.alpha, before.alpha)
    said = after.metadata
    assert said.icc == ICC and said.xmp == XMP
    with Image.open(path) as image:
        exif = image.getexif()
        assert exif[ExifTags.Base.Make] == "Kamera"
        assert exif[ExifTags.Base.Software] == "diffir test"
        assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] == 0.5
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAltitude] == 120.0


def test_a_tiff_is_read_alike_by_another_library(tmp_path: Path) -> None:
    picture = _picture(3, np.uint16)
    write_picture(picture, tmp_path / "out.tif")
    found: NDArray[Any] | None = cv2.imread(str(tmp_path / "out.tif"), cv2.IMREAD_UNCHANGED)
    assert found is not None
    np.testing.assert_array_equal(found[:, :, ::-1], picture.rgb)


def test_tags_of_a_tiffs_own_pixels_do_not_go_into_other_files(tmp_path: Path) -> None:
    write_picture(_picture(3, np.uint8), tmp_path / "in.tif")
    write_picture(read_picture(tmp_path / "in.tif"), tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as image:
        tags = set(image.getexif())
    assert ExifTags.Base.Make in tags
    assert not tags & {ExifTags.Base.StripOffsets, ExifTags.Base.Compression, 34675, 700}


@pytest.mark.parametrize("ending", [".jpg", ".webp", ".avif", ".bmp", ".tiff", ".PNG"])
def test_every_format_comes_back_near_what_was_written(ending: str, tmp_path: Path) -> None:
    rgb = np.full((32, 40, 3), (200, 90, 30), np.uint8)
    write_picture(Picture(rgb), tmp_path / f"out{ending}")
    after = read_picture(tmp_path / f"out{ending}")
    assert np.abs(after.rgb.astype(int) - rgb).max() <= 4
    assert not after.deep and after.alpha is None


def test_jpeg_xl_loses_nothing_when_asked(tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    picture = _picture(4, np.uint8)
    write_picture(picture, tmp_path / "out.jxl", lossless=True)
    after = read_picture(tmp_path / "out.jxl")
    np.testing.assert_array_equal(after.rgb, picture.rgb)
    assert after.alpha is not None and after.format == "JXL"
    # libjxl writes an sRGB profile of its own for one it recognises.
    assert after.metadata.icc


def test_a_heic_photo_is_read(tmp_path: Path) -> None:
    plugin = pytest.importorskip("pillow_heif")
    rgb = np.full((64, 48, 3), (200, 90, 30), np.uint8)
    plugin.from_pillow(Image.fromarray(rgb)).save(tmp_path / "photo.heic", quality=95)
    found = read_picture(tmp_path / "photo.heic")
    assert found.size == (48, 64) and found.format == "HEIF"
    assert np.abs(found.rgb.astype(int) - rgb).max() <= 6


@pytest.mark.parametrize("start", [b"\0\0\0\x18ftypheic", b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"])
def test_a_format_of_a_missing_library_says_how_to_install_it(
    start: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "photo").write_bytes(start + bytes(100))
    with pytest.raises(InputError) as caught:
        read_picture(tmp_path / "photo")
    assert caught.value.hint == "pip install 'diffir[formats]'"
    with pytest.raises(InputError, match="JXL is not installed"):
        format_of(tmp_path / "out.jxl")


def test_the_format_wished_for_goes_before_a_missing_ending(tmp_path: Path, s2_file: Path) -> None:
    Image.fromarray(noise_image(8, 8)).save(tmp_path / "in.png")
    out = tmp_path / "out"
    result = run_cli("restore", tmp_path / "in.png", "-w", s2_file, "-o", out, "-f", "JPEG")
    assert result.exit_code == 0, result.output
    assert read_picture(out).format == "JPEG"


@pytest.mark.parametrize(
    ("name", "wish", "said"),
    [
        ("out.jpg", "png", "would not be what its ending says"),
        ("out.png", "gif", "no format 'gif' can be written"),
        ("out.gif", None, "unknown ending '.gif'"),
        ("out", None, "its name has no ending"),
    ],
)
def test_a_format_that_makes_no_sense_is_refused(name: str, wish: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        format_of(Path(name), wish)


def test_what_cannot_be_written_like_its_source_becomes_png() -> None:
    names = ("JPEG", "MPO", "TIFF", "GIF", "HEIF", "")
    assert [format_like(name).name for name in names] == ["JPEG", "JPEG", "TIFF", *["PNG"] * 3]


@pytest.mark.parametrize(
    ("ending", "deep", "alpha", "said"),
    [
        (".jpg", True, False, "16 bits"),
        (".avif", True, False, "16 bits"),
        (".bmp", False, True, "--background white"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    ending: str, deep: bool, alpha: bool, said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        write_picture(
            _picture(4 if alpha else 3, np.uint16 if deep else np.uint8), tmp_path / f"o{ending}"
        )
    assert said in f"{caught.value.message} {caught.value.hint}"
    assert list(tmp_path.iterdir()) == []


def test_a_background_is_what_shows_through(tmp_path: Path, s2_file: Path) -> None:
    pixels = np.dstack([np.full((8, 8, 3), 40, np.uint8), np.zeros((8, 8), np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "in.png")
    out = tmp_path / "out.jpg"
    command = ("restore", tmp_path / "in.png", "-w", s2_file, "-o", out)
    assert "--background white" in run_cli(*command).stderr
    result = run_cli(*command, "--background", "#ff8000")
    assert result.exit_code == 0, result.output
    assert np.abs(read_picture(out).rgb.astype(int) - (255, 128, 0)).max() <= 3


def test_half_transparent_colours_are_mixed_in_the_files_own_depth() -> None:
    rgb = np.full((1, 1, 3), 65_535, np.uint16)
    half = Picture(rgb, np.full((1, 1), 32_768, np.uint16), grey=True)
    mixed = half.over((0, 0, 0))
    assert mixed.alpha is None and mixed.grey
    assert mixed.rgb.ravel().tolist() == [32_768] * 3
    assert not half.over((255, 0, 0)).grey


@pytest.mark.parametrize(
    "wrong", [["--background", "nocolour"], ["--background", "red", "--alpha", "drop"]]
)
def test_a_background_that_cannot_be_is_a_usage_error(
    wrong: list[str], tmp_path: Path, s2_file: Path
) -> None:
    Image.fromarray(noise_image(8, 8)).save(tmp_path / "in.png")
    out = tmp_path / "out.png"
    assert run_cli("restore", tmp_path / "in.png", "-w", s2_file, "-o", out, *wrong).exit_code == 2
