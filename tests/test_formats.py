"""Formats: what each holds is kept in it, what it cannot hold is refused before the work."""

from __future__ import annotations

import os
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
from diffir_cli.imaging.profiles import PRIMARIES, make_profile
from tests.conftest import noise_image, succeeded

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
    rng = np.random.default_rng(channels).integers(0, white + 1, (9, 13, 4)).astype(kind)
    grey = channels < 3
    rgb = np.repeat(rng[:, :, :1], 3, axis=2) if grey else rng[:, :, :3]
    alpha = None if channels % 2 else rng[:, :, 3]
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
    wording = after.metadata
    # A profile for colours says nothing of grey: the grey of the same curve takes its place.
    assert (wording.icc or b"")[16:20] == (b"GRAY" if after.grey else b"RGB ")
    assert after.grey or wording.icc == ICC
    assert wording.xmp == XMP
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


@pytest.mark.parametrize("start", [b"\0\0\0\x18ftypheic", b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"])
def test_a_format_of_a_missing_library_says_how_to_install_it(
    start: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "photo").write_bytes(start + bytes(100))
    with pytest.raises(InputError) as caught:
        read_picture(tmp_path / "photo")
    assert caught.value.hint == "pip install 'diffir-cli[formats]'"
    with pytest.raises(InputError, match="JXL is not installed"):
        format_of(tmp_path / "out.jxl")


def test_the_format_wished_for_goes_before_a_missing_ending(tmp_path: Path, restore: Any) -> None:
    Image.fromarray(noise_image(8, 8)).save(tmp_path / "in.png")
    out = tmp_path / "out"
    succeeded(restore(tmp_path / "in.png", out, "-f", "JPEG"))
    assert read_picture(out).format == "JPEG"


def test_what_cannot_be_written_like_its_source_becomes_png() -> None:
    names = ("JPEG", "MPO", "TIFF", "HEIF", "GIF", "")
    expected = ["JPEG", "JPEG", "TIFF", "HEIF", "PNG", "PNG"]
    assert [format_like(name).name for name in names] == expected


@pytest.mark.parametrize(
    ("ending", "deep", "alpha", "wording"),
    [
        (".jpg", True, False, "16 bits"),
        (".avif", True, False, "16 bits"),
        (".bmp", False, True, "--background white"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    ending: str, deep: bool, alpha: bool, wording: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        write_picture(
            _picture(4 if alpha else 3, np.uint16 if deep else np.uint8), tmp_path / f"o{ending}"
        )
    assert wording in f"{caught.value.message} {caught.value.hint}"
    assert list(tmp_path.iterdir()) == []


def test_a_background_is_what_shows_through(tmp_path: Path, restore: Any) -> None:
    pixels = np.dstack([np.full((8, 8, 3), 40, np.uint8), np.zeros((8, 8), np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "in.png")
    out = tmp_path / "out.jpg"
    command = (tmp_path / "in.png", out)
    assert "--background white" in restore(*command).stderr
    succeeded(restore(*command, "--background", "#ff8000"))
    assert np.abs(read_picture(out).rgb.astype(int) - (255, 128, 0)).max() <= 3


def test_half_transparent_colours_are_mixed_in_the_files_own_depth() -> None:
    rgb = np.full((1, 1, 3), 65_535, np.uint16)
    half = Picture(rgb, np.full((1, 1), 32_768, np.uint16), grey=True)
    mixed = half.over((0, 0, 0))
    assert mixed.alpha is None and mixed.grey
    assert mixed.rgb.ravel().tolist() == [32_768] * 3
    assert not half.over((255, 0, 0)).grey


def test_exif_of_a_cameras_tiff_is_kept_with_all_its_directories(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.load(_exif())
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: "R98"}
    picture = Picture(noise_image(9, 13), metadata=Metadata(exif=b"Exif\0\0" + exif.tobytes()))
    write_picture(picture, tmp_path / "camera.tif")
    found = Image.Exif()
    found.load(read_picture(tmp_path / "camera.tif").metadata.exif or b"")
    assert found[ExifTags.Base.Make] == "Kamera"
    assert found.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAltitude] == 120.0


def test_a_profile_for_grey_does_not_go_into_a_file_of_colours(tmp_path: Path) -> None:
    grey_icc = ICC[:16] + b"GRAY" + ICC[20:]
    grey = Picture(np.full((8, 8, 3), 90, np.uint8), grey=True, metadata=Metadata(icc=grey_icc))
    for ending, kept in ((".png", True), (".jpg", True), (".webp", False), (".avif", False)):
        write_picture(grey, tmp_path / f"out{ending}")
        with Image.open(tmp_path / f"out{ending}") as image:
            assert ("icc_profile" in image.info) is kept, ending


def test_jpeg_xl_and_bmp_refuse_a_profile_that_they_would_lose(tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    wide = make_profile(PRIMARIES[12], (2.2,), grey=False)
    for ending in (".jxl", ".bmp"):
        with pytest.raises(InputError, match="lose the colour profile"):
            picture = Picture(noise_image(8, 8), metadata=Metadata(wide))
            write_picture(picture, tmp_path / f"out{ending}")


@pytest.mark.parametrize("field", ["exif", "xmp"])
def test_notes_too_long_for_jpeg_are_refused_before_the_work(field: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = bytes(70_000)
    block = b"Exif\0\0" + exif.tobytes() if field == "exif" else bytes(70_000)
    metadata = Metadata(**{field: block})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"70,0\d\d bytes of"):
        write_picture(Picture(noise_image(8, 8), metadata=metadata), tmp_path / "out.jpg")


def test_the_size_on_paper_is_kept(tmp_path: Path) -> None:
    for kind in (np.uint8, np.uint16):
        pixels = noise_image(8, 8).astype(kind)
        for ending in (".png", ".tif") if kind is np.uint16 else (".png", ".jpg", ".tif"):
            path = tmp_path / f"{kind.__name__}{ending}"
            write_picture(Picture(pixels, metadata=Metadata(dpi=(300.0, 300.0))), path)
            found = read_picture(path, deep=True).metadata.dpi
            assert found is not None and abs(found[0] - 300) < 0.1


def test_ten_bits_of_an_avif_are_not_cut_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "deep.avif"
    deep = (noise_image(16, 16).astype(np.uint16)) * 4
    try:
        written = cv2.imwrite(str(path), deep, [cv2.IMWRITE_AVIF_DEPTH, 10])
    except cv2.error:
        written = False
    if not written:
        pytest.skip("OpenCV writes no AVIF here")
    read_picture(path)
    assert "more than 8 bits" in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs fifos")
def test_a_device_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    with pytest.raises(InputError, match="is not a regular file"):
        write_picture(Picture(noise_image(8, 8)), tmp_path / "fifo.png", overwrite=True)


def test_the_sheet_of_both_says_no_more_than_the_result(restore: Any, tmp_path: Path) -> None:
    wording = Metadata(ICC, _exif(), XMP)
    write_picture(Picture(noise_image(8, 8), metadata=wording), tmp_path / "in.jpg")
    command = (tmp_path / "in.jpg", tmp_path / "out.png")
    sheet = tmp_path / "sheet.png"
    assert restore(*command, "--compare", sheet, "--strip-metadata").exit_code == 0
    found = read_picture(sheet).metadata
    assert found.exif is None and found.xmp is None and found.icc == ICC
    assert restore(*command, "--compare", sheet, "--overwrite").exit_code == 0
    with Image.open(sheet) as image:
        assert image.info["Software"].startswith("diffir ")
        assert image.getexif()[ExifTags.Base.Make] == "Kamera"
    # Nor is a source ever taken for it.
    wrong = restore(*command, "--compare", tmp_path / "in.jpg", "--overwrite")
    assert wrong.exit_code == 2
