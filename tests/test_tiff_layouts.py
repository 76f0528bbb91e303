"""TIFFs of every layout are read rightly, or refused in words that are true of them."""

from __future__ import annotations

import itertools
import resource
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin

from diffir_cli.errors import InputError
from diffir_cli.imaging import read_picture
from diffir_cli.imaging.probe import probe_picture
from tests.conftest import noise_image, run_cli, succeeded


def _samples(channels: int, dtype: Any = np.uint16, size: tuple[int, int] = (23, 37)) -> Any:
    """(H, W, channels) in which every row, column and channel differs."""
    shape = (*size, channels)
    if np.issubdtype(dtype, np.floating):
        return np.random.default_rng(1).random(shape).astype(dtype)
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def _written(path: Path, pixels: NDArray[Any], planar: bool = False, **options: Any) -> Path:
    """A TIFF of (H, W, channels) as tifffile writes it."""
    layout: str | None = "separate" if planar else "contig"
    data = np.moveaxis(pixels, 2, 0) if planar else pixels
    if pixels.shape[2] == 1:
        data, layout = pixels[:, :, 0], None
    kind = "rgb" if pixels.shape[2] > 2 else "minisblack"
    settings = {"photometric": kind, "planarconfig": layout, "metadata": None, **options}
    tifffile.imwrite(path, data, **settings)
    return path


def _read(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    picture = read_picture(path, deep=True)
    probe = probe_picture(path, 10**6)
    assert (probe.size, probe.deep) == (picture.size, picture.deep)
    assert probe.alpha is (picture.alpha is not None)
    return picture.rgb, picture.alpha


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_every_layout_gives_the_same_pixels(
    dtype: Any, channels: int, planar: bool, order: Any, big: bool, tmp_path: Path
) -> None:
    pixels = _samples(channels, dtype)
    blocks: list[dict[str, Any]] = [{"rowsperstrip": 5}, {"tile": (16, 32)}]
    packed = {"compression": "zlib"}
    for block, packing in itertools.product(blocks, [{}, packed, {**packed, "predictor": True}]):
        arguments = {"byteorder": order, "bigtiff": big, **block, **packing}
        path = _written(tmp_path / "in.tif", pixels, planar and channels > 1, **arguments)
        rgb, alpha = _read(path)
        expected = np.repeat(pixels, 3, 2) if channels == 1 else pixels
        np.testing.assert_array_equal(rgb, expected, str(arguments))
        assert alpha is None


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_what_is_called_so(
    channels: int, dtype: Any, planar: bool, tmp_path: Path
) -> None:
    pixels = _samples(channels, dtype)
    arguments: dict[str, Any] = {"compression": "zlib", "predictor": True}
    path = _written(tmp_path / "in.tif", pixels, planar, extrasamples=["unassalpha"], **arguments)
    rgb, alpha = _read(path)
    expected = np.repeat(pixels[:, :, :1], 3, 2) if channels == 2 else pixels[:, :, :3]
    np.testing.assert_array_equal(rgb, expected)
    np.testing.assert_array_equal(alpha, pixels[:, :, -1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_multiplied_by_alpha_are_divided_by_it(dtype: Any, tmp_path: Path) -> None:
    white = int(np.iinfo(dtype).max)
    pixels = np.full((16, 16, 4), white // 4, dtype)
    pixels[:, :, 3] = white // 2
    rgb, alpha = _read(_written(tmp_path / "in.tif", pixels, extrasamples=["assocalpha"]))
    assert np.abs(rgb.astype(int) - white // 2).max() <= 2
    np.testing.assert_array_equal(alpha, pixels[:, :, 3])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("extra", [["unspecified"], ["unspecified", "unassalpha"]])
def test_a_channel_of_unknown_meaning_is_no_alpha_and_is_named(
    dtype: Any, extra: list[str], restore: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = _samples(3 + len(extra), dtype)
    pixels[..., 3] //= 2
    path = _written(tmp_path / "in.tif", pixels, extrasamples=extra)
    rgb, alpha = _read(path)
    np.testing.assert_array_equal(rgb, pixels[:, :, :3])
    if len(extra) == 1:
        assert alpha is None
    else:
        np.testing.assert_array_equal(alpha, pixels[:, :, 4])
    result = restore(path, tmp_path / "out.png")
    assert result.exit_code == 0 and caplog.text.count("a channel of unknown meaning") == 1


def test_a_tiff_whose_zero_is_white_is_no_negative(tmp_path: Path) -> None:
    path = _written(tmp_path / "in.tif", _samples(1), photometric="miniswhite")
    np.testing.assert_array_equal(_read(path)[0][:, :, :1], 65_535 - _samples(1))


def test_sixteen_bits_packed_by_lzw_are_read(tmp_path: Path) -> None:
    pixels = _samples(3)
    cv2.imwrite(str(tmp_path / "in.tif"), pixels[:, :, ::-1])
    with Image.open(tmp_path / "in.tif") as image:
        assert image.info["compression"] == "tiff_lzw"
    np.testing.assert_array_equal(_read(tmp_path / "in.tif")[0], pixels)


def _packed(path: Path, levels: NDArray[Any], bits: int) -> Path:
    """A grey TIFF of bits that do not fill bytes, made by hand."""
    height, width = levels.shape
    places = (levels[:, :, None].astype(np.uint16) >> np.arange(bits - 1, -1, -1)) & 1
    data = np.packbits(places.reshape(height, -1).astype(np.uint8), axis=1).tobytes()
    made = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in {256: width, 257: height, 258: bits, 259: 1, 262: 1, 277: 1}.items():
        made[tag] = value
    made[278], made[279], made[273] = height, len(data), 0
    with path.open("wb") as file:
        made.save(file)
        file.write(data)
    return path


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_odd_numbers_of_bits_become_sixteen(bits: int, tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 2**bits, (9, 13), np.uint16)
    rgb, _ = _read(_packed(tmp_path / "in.tif", levels, bits))
    expected = np.rint(levels * (65_535 / (2**bits - 1)))
    np.testing.assert_array_equal(rgb[:, :, 0], expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("predictor", [1, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_floating_point_numbers_of_0_to_1_become_sixteen_bits(
    dtype: Any, predictor: int, order: Any, tmp_path: Path
) -> None:
    pixels = _samples(3, dtype)
    data = _float_differences(pixels) if predictor == 3 else None
    path = _written(tmp_path / "in.tif", pixels, compression="zlib", byteorder=order)
    if data is not None:
        path = _with_strip(path, data)
    np.testing.assert_array_equal(_read(path)[0], np.rint(pixels.astype(float) * 65_535))


def _float_differences(pixels: NDArray[Any]) -> bytes:
    """Rows as libtiff's predictor 3 stores them: highest bytes first, then differences."""
    height, width, channels = pixels.shape
    size = pixels.itemsize
    numbers = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, width * channels, 1)
    parts = numbers.view(np.uint8).transpose(0, 2, 1).reshape(height, width * channels * size)
    pieces = parts.reshape(height, -1, channels)
    differences = pieces.copy()
    differences[:, 1:] -= pieces[:, :-1]
    return differences.tobytes()


def _with_strip(path: Path, rows: bytes) -> Path:
    """A TIFF of the same tags with predictor 3 and one strip of those rows."""
    before = tifffile.TiffFile(path).pages[0].tags  # type: ignore[union-attr]
    data = zlib.compress(rows)
    prefix = b"II" if tifffile.TiffFile(path).byteorder == "<" else b"MM"
    made = TiffImagePlugin.ImageFileDirectory_v2(prefix=prefix)
    for tag in (256, 257, 258, 259, 262, 277, 284, 339):
        made[tag] = before[tag].value
    made[317], made[278], made[279], made[273] = 3, before[257].value, len(data), 0
    with path.open("wb") as file:
        made.save(file)
        file.write(data)
    return path


@pytest.mark.parametrize(
    ("pixels", "wording"),
    [
        (_samples(3, np.float32) * 300, "floating-point numbers from"),
        (np.full((8, 8, 3), np.nan, np.float32), "floating-point numbers from"),
        (_samples(1, np.uint32), "integers of 32 bits"),
        (_samples(1, np.int16), "signed integers of 16 bits"),
        (_samples(1, np.int32), "signed integers of 32"),
    ],
)
def test_numbers_that_are_no_levels_are_refused(
    pixels: NDArray[Any], wording: str, restore: Any, tmp_path: Path
) -> None:
    path = _written(tmp_path / "in.tif", pixels)
    result = restore(path, tmp_path / "out.png")
    assert result.exit_code == 3 and wording in result.stderr, result.output
    assert "not a supported image" not in result.stderr and "TIFF, BMP" not in result.stderr
    assert not (tmp_path / "out.png").exists()


def test_a_compression_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = _written(tmp_path / "in.tif", _samples(3))
    data = bytearray(path.read_bytes())
    place = data.index(b"\x03\x01\x03\x00\x01\x00\x00\x00\x01\x00")
    data[place + 8 : place + 10] = (34712).to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(InputError, match="compression JPEG 2000"):
        read_picture(path, deep=True)
    with pytest.raises(InputError, match="compression JPEG 2000"):
        probe_picture(path, 10**6)


@pytest.mark.parametrize("packing", [{}, {"compression": "zlib"}])
def test_a_tiff_that_ends_early_is_refused(packing: Any, tmp_path: Path) -> None:
    path = _written(tmp_path / "in.tif", _samples(3), rowsperstrip=4, **packing)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match=r"in\.tif"):
        read_picture(path, deep=True)


def test_cmyk_of_sixteen_bits_looks_like_that_of_eight(tmp_path: Path) -> None:
    shallow = np.asarray(Image.fromarray(noise_image(8, 8)).convert("CMYK"))
    arguments = {"photometric": "separated", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "8.tif", shallow, **arguments)  # type: ignore[arg-type]
    deep = shallow.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "16.tif", deep, **arguments)  # type: ignore[arg-type]
    eight, sixteen = (read_picture(tmp_path / f"{bits}.tif", deep=True) for bits in (8, 16))
    np.testing.assert_array_equal(eight.rgb, sixteen.rgb)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("ending", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_bigtiff_keeps_its_notes_and_comes_out_upright(
    dtype: Any, ending: str, order: Any, restore: Any, tmp_path: Path
) -> None:
    if dtype is np.uint16 and ending == ".jpg":
        pytest.skip("JPEG has no 16 bits")
    extra = [(271, "s", 7, "Kamera", True), (274, "H", 1, 6, True)]
    arguments = {"bigtiff": True, "byteorder": order, "extratags": extra}
    path = _written(tmp_path / "in.tif", _samples(3, dtype, (12, 20)), **arguments)
    out = tmp_path / f"out{ending}"
    succeeded(restore(path, out))
    assert read_picture(out, deep=True).size == (48, 80)
    with Image.open(out) as image:
        exif = image.getexif()
    assert exif[ExifTags.Base.Make] == "Kamera" and exif.get(ExifTags.Base.Orientation, 1) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_is_read_upright(orientation: int, tmp_path: Path) -> None:
    shallow = noise_image(12, 20)
    tags = [(274, "H", 1, orientation, True)]
    _written(tmp_path / "deep.tif", shallow.astype(np.uint16) * 257, extratags=tags)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(shallow).save(tmp_path / "shallow.png", exif=exif)
    expected = read_picture(tmp_path / "shallow.png").rgb.astype(np.uint16) * 257
    np.testing.assert_array_equal(_read(tmp_path / "deep.tif")[0], expected)


def _raw(path: Path, sub: bool) -> Path:
    """A preview of 8×8 pixels in front of sensor data, as cameras write it."""
    sensor = _samples(1, np.uint16, (64, 64))[:, :, 0]
    with tifffile.TiffWriter(path) as file:
        if sub:
            preview = noise_image(8, 8)
            file.write(preview, photometric="rgb", subifds=1, subfiletype=1, metadata=None)
        file.write(sensor, photometric="cfa", metadata=None)
    return path


@pytest.mark.parametrize("sub", [False, True])
@pytest.mark.parametrize("name", ["photo.nef", "photo.tif"])
def test_raw_files_are_refused_with_what_to_do(
    name: str, sub: bool, s2_file: Path, restore: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    path = _raw(folder / name, sub)
    result = restore(path, tmp_path / "out.png")
    assert result.exit_code == 3 and "raw" in result.stderr and "darktable" in result.stderr
    Image.fromarray(noise_image(8, 8)).save(folder / "other.png")
    result = run_cli("batch", folder, "-w", s2_file, "-o", tmp_path / "out")
    assert result.exit_code == 3 and "camera raw file" in result.stderr
    assert [file.name for file in (tmp_path / "out").glob("[!.]*")] == ["other.png"]


def test_a_pyramid_is_no_raw_file(tmp_path: Path) -> None:
    pixels = _samples(3, np.uint8, (64, 64))
    with tifffile.TiffWriter(tmp_path / "in.tif") as file:
        file.write(pixels, photometric="rgb", subifds=1, metadata=None)
        file.write(pixels[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    np.testing.assert_array_equal(_read(tmp_path / "in.tif")[0], pixels)


def test_damaged_tiffs_are_one_error_or_a_picture_and_take_little_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arguments: dict[str, Any] = {"tile": (16, 16), "compression": "zlib", "predictor": True}
    _written(tmp_path / "tiles.tif", _samples(3), **arguments)
    _written(tmp_path / "big.tif", _samples(4), True, bigtiff=True, extrasamples=["unassalpha"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for name in ("tiles.tif", "big.tif"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(300):
            data = bytearray(whole)
            for place in rng.integers(0, 600, 3):
                data[place] = rng.integers(0, 256)
            for look in (
                lambda data: read_picture(Path("in.tif"), True, 10**6, data=data),
                lambda data: probe_picture(Path("in.tif"), 10**6, data),
            ):
                try:
                    look(bytes(data))
                except InputError as error:
                    refused += 1
                    assert "\n" not in error.message
    assert 100 < refused < 1200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
