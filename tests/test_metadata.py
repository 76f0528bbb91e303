"""Nothing is lost: sixteen bits, EXIF, XMP and profile come out as they went in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps

from diffir_cli.errors import InputError
from diffir_cli.imaging import Picture, read_picture, write_picture
from diffir_cli.models.diffir.networks import DiffIRS2
from tests.conftest import noise_image, run_cli, succeeded
from tests.runner_helpers import runner_of

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><note>caf\xc3\xa9</note></x:xmpmeta>'
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Kamera"
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.ImageWidth] = 12
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.ExposureTime] = 0.5
    inner[ExifTags.Base.ExifImageWidth] = 12
    inner[ExifTags.Base.ExifImageHeight] = 9
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAltitude] = 120.0
    return exif


def _photo(path: Path, orientation: int = 1) -> Path:
    image = Image.fromarray(noise_image(9, 12))
    image.save(path, exif=_exif(orientation).tobytes(), xmp=XMP, icc_profile=ICC)
    return path


def _deep(shape: tuple[int, ...]) -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 65_536, shape, dtype=np.uint16)


def _deep_file(path: Path, pixels: NDArray[Any]) -> Path:
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(pixels.shape[2] if pixels.ndim == 3 else 1)
    cv2.imwrite(str(path), pixels if order is None else pixels[:, :, order])
    return path


@pytest.mark.parametrize("before", [".jpg", ".webp"])
@pytest.mark.parametrize("after", [".jpg", ".webp", ".png"])
def test_exif_xmp_and_profile_are_kept_for_the_new_size(
    before: str, after: str, restore: Any, tmp_path: Path
) -> None:
    out = tmp_path / f"out{after}"
    photo = _photo(tmp_path / f"in{before}", orientation=6)
    succeeded(restore(photo, out))
    with Image.open(out) as image:
        image.load()
        assert image.size == (36, 48)
        assert image.info["icc_profile"] == ICC
        xmp = image.info.get("xmp", image.info.get("XML:com.adobe.xmp"))
        assert (xmp.encode() if isinstance(xmp, str) else xmp) == XMP
        exif = image.getexif()
        assert exif[ExifTags.Base.Make] == "Kamera"
        assert exif.get(ExifTags.Base.Orientation, 1) == 1
        assert exif[ExifTags.Base.ImageWidth] == 36
        assert str(exif[ExifTags.Base.Software]).startswith("diffir ")
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAltitude] == 120
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        assert inner[ExifTags.Base.ExposureTime] == 0.5
        assert (inner[ExifTags.Base.ExifImageWidth], inner[ExifTags.Base.ExifImageHeight]) == (
            36,
            48,
        )


@pytest.mark.parametrize("ending", [".jpg", ".webp", ".png"])
def test_a_result_says_which_weights_and_seed_made_it(
    ending: str, s2_file: Path, tmp_path: Path
) -> None:
    Image.fromarray(noise_image(9, 12)).save(tmp_path / "in.png")
    out = tmp_path / f"out{ending}"
    more = ("-o", out, "--seed", "7")
    assert run_cli("restore", tmp_path / "in.png", "-w", s2_file, *more).exit_code == 0
    with Image.open(out) as image:
        software = image.info.get("Software") or image.getexif()[ExifTags.Base.Software]
    assert s2_file.name in software and "sha256" in software and "seed 7" in software


@pytest.mark.parametrize("ending", [".jpg", ".webp", ".png"])
def test_stripped_results_keep_nothing_but_the_profile(
    ending: str, restore: Any, tmp_path: Path
) -> None:
    out = tmp_path / f"out{ending}"
    photo = _photo(tmp_path / "in.jpg", orientation=3)
    assert restore(photo, out, "--strip-metadata").exit_code == 0
    with Image.open(out) as image:
        assert not len(image.getexif()) and "Software" not in image.info
        assert "xmp" not in image.info and "XML:com.adobe.xmp" not in image.info
        assert image.info["icc_profile"] == ICC
    data = out.read_bytes()
    assert b"Kamera" not in data and b"diffir" not in data


def test_a_broken_block_of_exif_does_not_spoil_the_picture(restore: Any, tmp_path: Path) -> None:
    path = tmp_path / "in.jpg"
    broken = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 40
    Image.fromarray(noise_image(9, 12)).save(path, exif=broken)
    out = tmp_path / "out.png"
    result = restore(path, out)
    assert result.exit_code == 0 and "Traceback" not in result.output and out.exists()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bits_are_read_and_written_as_they_are(
    channels: int, ending: str, tmp_path: Path
) -> None:
    pixels = _deep((9, 12, channels))
    picture = read_picture(_deep_file(tmp_path / f"in{ending}", pixels), deep=True)
    write_picture(picture.restored(picture.rgb, "diffir test"), tmp_path / "out.png")
    for found in (picture, read_picture(tmp_path / "out.png", deep=True)):
        assert found.deep and found.grey is (channels == 1)
        expected = np.repeat(pixels, 3, axis=2) if channels == 1 else pixels[:, :, :3]
        np.testing.assert_array_equal(found.rgb, expected)
        assert (found.alpha is None) is (channels < 4)
        if found.alpha is not None:
            np.testing.assert_array_equal(found.alpha, pixels[:, :, 3])


def test_grey_with_alpha_of_sixteen_bits_stays_so(tmp_path: Path) -> None:
    grey, alpha = _deep((9, 12, 1)), _deep((10, 12))[1:]
    write_picture(Picture(np.repeat(grey, 3, axis=2), alpha, grey=True), tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert "LA;16B" in str(image.tile)
    back = read_picture(tmp_path / "out.png", deep=True)
    assert back.grey and back.alpha is not None
    np.testing.assert_array_equal(back.rgb[:, :, :1], grey)
    np.testing.assert_array_equal(back.alpha, alpha)


def test_a_written_picture_of_sixteen_bits_keeps_profile_exif_and_xmp(tmp_path: Path) -> None:
    photo = read_picture(_photo(tmp_path / "in.jpg"))
    deep = Picture(_deep((9, 12, 3)), metadata=photo.metadata)
    write_picture(deep.restored(deep.rgb, "diffir test"), tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        image.load()
        assert image.info["icc_profile"] == ICC
        assert image.info["XML:com.adobe.xmp"] == XMP.decode()
        assert image.info["Software"] == "diffir test"
        assert image.getexif()[ExifTags.Base.Make] == "Kamera"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_of_sixteen_bits_is_read_upright(orientation: int, tmp_path: Path) -> None:
    shallow = noise_image(9, 12)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(shallow).save(tmp_path / "shallow.png", exif=exif)
    deep = Picture(shallow.astype(np.uint16) * 257)
    write_picture(deep, tmp_path / "flat.png")
    data = (tmp_path / "flat.png").read_bytes()
    block = (tmp_path / "shallow.png").read_bytes()
    start = block.index(b"eXIf") - 4
    length = int.from_bytes(block[start : start + 4], "big") + 12
    (tmp_path / "deep.png").write_bytes(data[:33] + block[start : start + length] + data[33:])
    with Image.open(tmp_path / "shallow.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    found = read_picture(tmp_path / "deep.png", deep=True)
    np.testing.assert_array_equal(found.rgb, expected.astype(np.uint16) * 257)
    if found.metadata.exif is not None:
        kept = Image.Exif()
        kept.load(found.metadata.exif)
        assert kept.get(ExifTags.Base.Orientation, 1) == 1


def test_sixteen_bits_go_through_the_network_in_float(s2: DiffIRS2) -> None:
    """Steps finer than 1/255 survive, and whole levels give the picture of 8 bits."""
    shallow = noise_image(16, 24)
    restorer = runner_of(s2, "cpu")
    expected = restorer.restore(shallow)
    found = restorer.restore(shallow.astype(np.uint16) * 257)
    assert found.dtype == np.uint16
    assert np.abs(found / 257 - expected).max() <= 0.5001
    assert len(np.unique(found)) > 256
    with pytest.raises(ValueError, match="uint8, uint16, float32"):
        restorer.restore(shallow.astype(np.float64))


@pytest.mark.parametrize("ending", [".jpg", ".webp"])
def test_sixteen_bits_are_never_cut_without_a_word(
    ending: str, restore: Any, tmp_path: Path
) -> None:
    photo = _deep_file(tmp_path / "in.png", _deep((9, 12, 3)))
    result = restore(photo, tmp_path / f"out{ending}")
    assert result.exit_code == 3 and "16 bits per channel" in result.stderr
    assert not (tmp_path / f"out{ending}").exists()
    succeeded(restore(photo, tmp_path / "out.png"))
    assert read_picture(tmp_path / "out.png", deep=True).deep


def test_a_damaged_picture_of_sixteen_bits_is_refused(tmp_path: Path) -> None:
    path = _deep_file(tmp_path / "in.png", _deep((40, 40, 3)))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError):
        read_picture(path, deep=True)
