"""What counts in pixels is scaled with the picture, or left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from diffir_cli.imaging import Picture, read_picture
from diffir_cli.imaging.metadata import Metadata
from tests.conftest import noise_image

AREA, POINT = 1, 2


def _geotiff(path: Path, kind: int = AREA, dtype: Any = np.uint8, tags: Any = ()) -> Path:
    """20×12 pixels of 10 m, the first corner or point at (500000, 4600000)."""
    keys = (1, 1, 0, 2, 1024, 0, 1, 1, 1025, 0, 1, kind)
    extra = [
        (33550, "d", 3, (10.0, 10.0, 0.0), True),
        (33922, "d", 6, (2.0, 3.0, 0.0, 500_020.0, 4_599_970.0, 0.0), True),
        (34735, "H", len(keys), keys, True),
        *tags,
    ]
    pixels = noise_image(12, 20).astype(dtype)
    tifffile.imwrite(path, pixels, photometric="rgb", metadata=None, extratags=extra)
    return path


def _corner(exif: Image.Exif, kind: int) -> tuple[float, float]:
    """Where the first corner lies on the ground."""
    across, down, _ = exif[33550]
    i, j, _, x, y, _ = exif[33922]
    shift = 0.5 if kind == POINT else 0.0
    return x - (i + shift) * across, y + (j + shift) * down


@pytest.mark.parametrize("kind", [AREA, POINT])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("more", "scale"), [((), 4), (("--outscale", "2"), 2)])
def test_a_map_stays_where_it_is(
    more: Any, scale: int, dtype: Any, kind: int, restore: Any, tmp_path: Path
) -> None:
    path, out = _geotiff(tmp_path / "in.tif", kind, dtype), tmp_path / "out.tif"
    with Image.open(path) as image:
        before = _corner(image.getexif(), kind)
    assert restore(path, out, *more).exit_code == 0
    with Image.open(out) as image:
        exif, size = image.getexif(), image.size
    assert exif[33550] == (10 / scale, 10 / scale, 0) and size == (20 * scale, 12 * scale)
    assert _corner(exif, kind) == pytest.approx(before)
    assert exif[34735][-1] == kind


@pytest.mark.parametrize("kind", [AREA, POINT])
def test_a_matrix_leads_to_the_same_ground(kind: int, tmp_path: Path) -> None:
    matrix = (8.0, 2.0, 0.0, 1000.0, 1.0, -9.0, 0.0, 2000.0, *([0.0] * 7), 1.0)
    path = _geotiff(tmp_path / "in.tif", kind, tags=[(34264, "d", 16, matrix, True)])
    metadata = read_picture(path).metadata.of_result((80, 48), "")
    exif = Image.Exif()
    exif.load(metadata.exif or b"")
    after = np.array(exif[34264]).reshape(4, 4)
    shift = 0.5 if kind == POINT else 0.0
    for i, j in ((0, 0), (20, 12), (7, 3)):
        old = np.array(matrix).reshape(4, 4) @ (i - shift, j - shift, 0, 1)
        new = after @ (4 * i - shift, 4 * j - shift, 0, 1)
        np.testing.assert_allclose(new, old)


@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_other_formats_do_not_have_the_old_map(
    ending: str, restore: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, out = _geotiff(tmp_path / "in.tif"), tmp_path / f"out{ending}"
    assert restore(path, out).exit_code == 0
    assert caplog.text.count("GeoTIFF") == 1
    with Image.open(out) as image:
        assert not {33550, 33922, 34735} & set(image.getexif())


def test_a_turned_map_is_left_out_with_a_word(tmp_path: Path) -> None:
    path = _geotiff(tmp_path / "in.tif", tags=[(274, "H", 1, 6, True)])
    metadata = read_picture(path).metadata
    assert metadata.lost == ("the place on the map (GeoTIFF)",)
    exif = Image.Exif()
    exif.load(metadata.exif or b"")
    assert 33550 not in exif


def _metadata(**inner: Any) -> Metadata:
    exif = Image.Exif()
    exif[271] = "Kamera"
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {int(key[1:], 16): value for key, value in inner.items()}
    )
    return Metadata(exif=b"Exif\0\0" + exif.tobytes(), size=(100, 50))


@pytest.mark.parametrize(
    ("before", "after"),
    [((10, 20), (40, 80)), ((10, 20, 6), (40, 80, 24)), ((10, 20, 6, 8), (40, 80, 24, 32))],
)
def test_where_the_subject_is_is_scaled(before: Any, after: Any) -> None:
    metadata = _metadata(x9214=before, xA214=(10, 20), xA20E=300.0, xA20F=200.0)
    exif = Image.Exif()
    exif.load(metadata.of_result((400, 200), "").exif or b"")
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    assert inner[0x9214] == after and inner[0xA214] == (40, 80)
    assert (inner[0xA20E], inner[0xA20F]) == (1200, 800)
    # Where the old size is unknown, as beside another picture, it is left out.
    both = Picture(noise_image(50, 100)).beside(Picture(noise_image(50, 100), metadata=metadata))
    exif.load(both.metadata.exif or b"")
    assert not {0x9214, 0xA214, 0xA20E} & set(exif.get_ifd(ExifTags.IFD.Exif))


def test_sizes_in_xmp_follow() -> None:
    packet = b"""<a tiff:ImageWidth="100" exif:PixelYDimension='50'
        GPano:FullPanoWidthPixels="400"><GPano:CroppedAreaTopPixels>7</GPano:CroppedAreaTopPixels>"""
    found = Metadata(xmp=packet, size=(100, 50)).of_result((400, 200), "").xmp
    assert found is not None
    assert b'tiff:ImageWidth="400"' in found and b"exif:PixelYDimension='200'" in found
    assert b'FullPanoWidthPixels="1600"' in found and b"CroppedAreaTopPixels>28<" in found


@pytest.mark.parametrize(
    ("description", "kept"),
    [
        ("ImageJ=1.11a\nimages=5\nchannels=5\n", False),
        ('{"shape": [30, 40, 3]}', False),
        ('<?xml version="1.0"?><OME/>', False),
        ("<OME xmlns='x'/>", False),
        ("At the sea, 1974", True),
    ],
)
@pytest.mark.parametrize("ending", [".tif", ".png", ".jpg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_descriptions_of_the_old_layout_are_left_out(
    dtype: Any, ending: str, description: str, kept: bool, restore: Any, tmp_path: Path
) -> None:
    if dtype is np.uint16 and ending == ".jpg":
        pytest.skip("JPEG has no 16 bits")
    extra = [(50838, "I", 2, (12, 34), True), (50839, "B", 4, b"IJIJ", True)]
    arguments: Any = {"photometric": "rgb", "metadata": None, "description": description}
    pixels = noise_image(12, 20).astype(dtype)
    tifffile.imwrite(tmp_path / "in.tif", pixels, extratags=extra, **arguments)
    out = tmp_path / f"out{ending}"
    assert restore(tmp_path / "in.tif", out).exit_code == 0
    with Image.open(out) as image:
        exif = image.getexif()
    assert exif.get(270) == (description if kept else None)
    assert 50838 not in exif and 50839 not in exif
