"""Pictures come in upright and whole, and go out whole or not at all."""

from __future__ import annotations

import io
import stat
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, ImageOps
from PIL.PngImagePlugin import PngImageFile

from diffir_cli.errors import DeviceError, InputError
from diffir_cli.imaging import Picture, check_fit, read_picture, write_picture
from diffir_cli.imaging.bicubic import enlarge_bicubic, reduce_bicubic
from diffir_cli.imaging.metadata import Metadata
from diffir_cli.imaging.opening import pillow_limits
from diffir_cli.imaging.png import chunk
from diffir_cli.imaging.probe import probe_picture
from tests.conftest import GOLDEN, noise_image


def test_the_bicubic_reduction_equals_the_benchmarks_bit_for_bit() -> None:
    with np.load(GOLDEN / "bicubic_x4.npz") as pairs:
        for hr, lr in zip(pairs["hr"], pairs["lr"], strict=True):
            np.testing.assert_array_equal(reduce_bicubic(hr, 4), lr)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 255])
def test_a_flat_picture_stays_flat_under_bicubic_resizing(value: int) -> None:
    flat = np.full((13, 22, 3), value, dtype=np.uint8)
    assert set(np.unique(reduce_bicubic(flat, 4))) == {value}
    assert set(np.unique(enlarge_bicubic(flat, 4))) == {value}
    assert reduce_bicubic(flat, 4).shape == (4, 6, 3)


def test_bicubic_resizing_commutes_with_mirroring() -> None:
    image = noise_image(32, 48)
    np.testing.assert_array_equal(
        reduce_bicubic(image[:, ::-1], 4), reduce_bicubic(image, 4)[:, ::-1]
    )


@pytest.mark.parametrize(
    ("mode", "grey", "alpha"),
    [
        ("RGB", False, False),
        ("L", True, False),
        ("RGBA", False, True),
        ("LA", True, True),
        ("P", False, False),
        ("1", True, False),
    ],
)
def test_the_mode_of_a_png_is_understood(
    mode: str, grey: bool, alpha: bool, tmp_path: Path
) -> None:
    source = Image.fromarray(noise_image(9, 12, 4))
    # From RGB, since a palette made from RGBA has transparent colours.
    (source.convert("RGB") if mode == "P" else source).convert(mode).save(tmp_path / "in.png")
    picture = read_picture(tmp_path / "in.png")
    assert picture.rgb.shape == (9, 12, 3)
    assert picture.grey is grey
    assert (picture.alpha is not None) is alpha
    assert picture.size == (12, 9)


def test_a_palette_with_a_transparent_colour_has_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(noise_image(9, 12)).quantize(8)
    image.save(tmp_path / "in.png", transparency=3)
    alpha = read_picture(tmp_path / "in.png").alpha
    assert alpha is not None and 0 in alpha and 255 in alpha


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_read_upright(orientation: int, tmp_path: Path) -> None:
    image = Image.fromarray(noise_image(16, 24))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "in.png", exif=exif)
    upright = read_picture(tmp_path / "in.png").rgb
    turns: dict[int, Any] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 1),
    }
    np.testing.assert_array_equal(upright, turns[orientation](np.asarray(image)))


def test_the_content_decides_and_not_the_ending(tmp_path: Path) -> None:
    Image.fromarray(noise_image(8, 8)).save(tmp_path / "in.JPG", "PNG")
    assert read_picture(tmp_path / "in.JPG").size == (8, 8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_picture_is_refused(kind: str, share: float, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise_image(64, 64)).save(buffer, kind)
    data = buffer.getvalue()
    path = tmp_path / "in.png"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError) as caught:
        read_picture(path)
    assert str(path) in caught.value.message


def test_a_sound_bmp_that_cannot_be_decoded_is_not_called_damaged(tmp_path: Path) -> None:
    masks, pixels = struct.pack("<3I", 0xF00, 0xF0, 0xF), bytes(8 * 8 * 2)
    header = struct.pack("<IiiHHII16x", 40, 8, 8, 1, 16, 3, len(pixels))
    start = struct.pack("<2sIHHI", b"BM", 66 + len(pixels), 0, 0, 66)
    (tmp_path / "in.bmp").write_bytes(start + header + masks + pixels)
    with pytest.raises(InputError) as caught:
        read_picture(tmp_path / "in.bmp")
    assert "unsupported BMP bitfields" in caught.value.message
    assert "damaged" not in caught.value.message


@pytest.mark.parametrize("content", [b"", b"hello, this is text", b"\x89PNG\r\n\x1a\n", b"II*\0"])
def test_what_is_no_picture_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(content)
    with pytest.raises(InputError, match=r"in\.png"):
        read_picture(tmp_path / "in.png")


def test_a_folder_or_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        read_picture(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_picture(tmp_path / "absent.png")


def test_sixteen_bits_are_refused_instead_of_being_lost(tmp_path: Path) -> None:
    import cv2

    deep = noise_image(8, 8).astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "rgb.png"), deep)
    cv2.imwrite(str(tmp_path / "grey.png"), deep[:, :, 0])
    for name in ("rgb.png", "grey.png"):
        with pytest.raises(InputError, match="16 bits per channel"):
            read_picture(tmp_path / name)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (14_000, 13_000)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match="too large"):
        read_picture(tmp_path / "bomb.png")


@pytest.mark.parametrize("ending", [".png", ".webp", ".jpg", ".JPEG"])
@pytest.mark.parametrize("grey", [False, True])
def test_a_picture_keeps_its_colours_and_profile(ending: str, grey: bool, tmp_path: Path) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgb = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (64, 48, 3))
    path = tmp_path / f"out{ending}"
    write_picture(Picture(rgb, None, grey, Metadata(icc)), path)
    back = read_picture(path)
    assert np.abs(back.rgb.astype(int) - rgb).max() <= (0 if ending == ".png" else 6)
    # WebP has no grey: its reader finds three equal channels.
    assert back.grey is (grey and ending != ".webp")
    # A profile for colours says nothing of grey: the grey of the same curve takes its place.
    assert (back.metadata.icc or b"")[16:20] == (b"GRAY" if back.grey else b"RGB ")
    assert back.grey or back.metadata.icc == icc


@pytest.mark.parametrize("ending", [".png", ".webp"])
@pytest.mark.parametrize("grey", [False, True])
def test_alpha_is_written_and_read_back_without_loss(
    ending: str, grey: bool, tmp_path: Path
) -> None:
    alpha = noise_image(10, 12, 1)
    write_picture(Picture(noise_image(10, 12), alpha, grey), tmp_path / f"out{ending}")
    found = read_picture(tmp_path / f"out{ending}").alpha
    assert found is not None
    np.testing.assert_array_equal(found, alpha)


def test_alpha_follows_to_the_new_size_and_a_constant_one_stays_constant() -> None:
    picture = Picture(noise_image(8, 8), np.full((8, 8), 77, np.uint8))
    enlarged = picture.restored(noise_image(32, 32)).alpha
    assert enlarged is not None and enlarged.shape == (32, 32) and set(enlarged.flat) == {77}


def test_an_existing_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_text("precious")
    with pytest.raises(InputError, match="already exists"):
        write_picture(Picture(noise_image(4, 4)), path)
    assert path.read_text() == "precious"
    write_picture(Picture(noise_image(4, 4)), path, overwrite=True)
    assert read_picture(path).size == (4, 4)


def test_a_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.png"

    def save_while_another_writes(_self: Image.Image, file: Any, *_args: Any, **_kw: Any) -> None:
        file.write(b"ours")
        path.write_text("theirs")

    monkeypatch.setattr(Image.Image, "save", save_while_another_writes)
    with pytest.raises(InputError, match="already exists"):
        write_picture(Picture(noise_image(4, 4)), path)
    assert path.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(_self: Image.Image, file: Any, *_args: Any, **_kw: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fill_the_disk)
    with pytest.raises(InputError, match=r"cannot write .*: No space left on device"):
        write_picture(Picture(noise_image(4, 4)), tmp_path / "out.png")
    assert list(tmp_path.iterdir()) == []


def test_a_written_file_has_ordinary_permissions(tmp_path: Path) -> None:
    write_picture(Picture(noise_image(4, 4)), tmp_path / "out.png")
    (tmp_path / "other").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("out.png", "other")}
    assert len(modes) == 1


def test_what_a_format_cannot_hold_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="transparency"):
        check_fit(tmp_path / "out.jpg", (10, 10), alpha=True)
    with pytest.raises(InputError, match="16383"):
        check_fit(tmp_path / "out.webp", (16_384, 10), alpha=False)
    with pytest.raises(InputError, match="65500"):
        check_fit(tmp_path / "out.jpg", (10, 65_536), alpha=False)
    check_fit(tmp_path / "out.png", (65_536, 65_536), alpha=True)


def _png_with(tmp_path: Path, behind: bool, kind: str) -> Path:
    """A lying photo of 20×12 pixels, upright 12×20, that says so before or behind its pixels."""
    if kind == "exif":
        exif = Image.Exif()
        exif[0x0112] = 6
        name, text = b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")
    else:
        xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
        name, text = b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
    path = tmp_path / "turned.png"
    Image.fromarray(noise_image(12, 20)).save(path)
    data = path.read_bytes()
    place = data.index(b"IEND" if behind else b"IDAT") - 4
    path.write_bytes(data[:place] + chunk(name, text) + data[place:])
    return path


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("kind", ["exif", "xmp"])
def test_the_orientation_of_a_png_is_found_before_and_behind_its_pixels(
    behind: bool, kind: str, tmp_path: Path
) -> None:
    path = _png_with(tmp_path, behind, kind)
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).size
    assert probe_picture(path, 10**6).size == upright == read_picture(path).size == (12, 20)


def test_the_size_of_a_png_is_read_without_its_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise_image(12, 20)).save(path)

    def load(_image: object) -> None:
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr(PngImageFile, "load", load)
    assert probe_picture(path, 10**6).size == (20, 12)
    assert probe_picture(path, 10**6, path.read_bytes()).size == (20, 12)


def test_a_deep_tiff_may_have_as_many_pixels_as_are_allowed(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65_536, (20, 20, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "deep.tif"), pixels[:, :, ::-1])
    picture = read_picture(tmp_path / "deep.tif", deep=True, max_pixels=400)
    assert np.array_equal(picture.rgb, pixels)


def test_a_lack_of_memory_is_not_called_a_damaged_file(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", lacking)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lacking)
    with pytest.raises(DeviceError, match="ran out of memory while reading"):
        read_picture(photo)


def test_pictures_with_the_same_limits_are_decoded_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=60)

    def decode() -> int | None:
        with pillow_limits(100, True):
            together.wait()
            return Image.MAX_IMAGE_PIXELS

    before = Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(2) as pool:
        decoded = [pool.submit(decode) for _ in range(2)]
        assert [one.result() for one in decoded] == [50, 50]
    assert before == Image.MAX_IMAGE_PIXELS and not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_picture_with_other_limits_waits_for_the_others() -> None:
    begun = threading.Event()
    order = []

    def decode() -> int | None:
        begun.set()
        with pillow_limits(200, False):
            order.append("second")
            return Image.MAX_IMAGE_PIXELS

    with ThreadPoolExecutor(1) as pool:
        with pillow_limits(100, True):
            other = pool.submit(decode)
            begun.wait()
            order.append("first")
            assert Image.MAX_IMAGE_PIXELS == 50 and ImageFile.LOAD_TRUNCATED_IMAGES
        assert other.result() == 100
    assert order == ["first", "second"]
