"""Hostile picture files and folders: bounded time and memory, nothing changed elsewhere."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from diffir_cli.errors import DiffIRError
from diffir_cli.imaging import read_picture, tiff_directory, write_picture
from diffir_cli.imaging.probe import probe_picture
from diffir_cli.imaging.xmp import without_extension, without_further_pictures
from tests.conftest import noise_image
from tests.processes import growth_of, in_own_process

_CONTAINER = "http://ns.google.com/photos/1.0/container/"


def _tiff(entries: dict[int, tuple[int, list[int]]], pixels: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory: by tag its type, 3 or 4, and its numbers."""
    table, values, place = b"", b"", 8 + 2 + 12 * len(entries) + 4
    for tag, (kind, numbers) in sorted(entries.items()):
        packed = struct.pack(f"<{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        if len(packed) > 4:
            values += packed
            packed = struct.pack("<I", place + len(values) - len(packed))
        table += struct.pack("<HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + table + bytes(4) + values + pixels


def _planes_without_strips() -> bytes:
    """Sixteen planes of 20 million rows, each a strip, of which one is there."""
    tags = {256: [1], 257: [20_000_000], 259: [1], 262: [1], 277: [16], 278: [1], 284: [2]}
    entries = {tag: (4, numbers) for tag, numbers in tags.items()}
    return _tiff({**entries, 258: (3, [8] * 16), 273: (4, [8]), 279: (4, [1])})


def _strips_in_one_place() -> bytes:
    """Three thousand packed strips, all in the same million bytes."""
    count, size = 3000, 1_000_000
    tags = {256: [1], 257: [count], 258: [8], 259: [8], 262: [1], 277: [1], 278: [1]}
    tags |= {273: [400 + 8 * count] * count, 279: [size] * count}
    return _tiff({tag: (4, numbers) for tag, numbers in tags.items()}, bytes(size + 1000))


def _endless_directories() -> bytes:
    """Three thousand overlapping directories of 65,535 entries each."""
    count, size = 3000, 2 + 65_535 * 12
    data = bytearray(b"\xff" * (8 + size + 4 * count + 16))
    data[:8] = b"II*\0" + struct.pack("<I", 8)
    for number in range(count):
        following = 8 + 4 * (number + 1) if number + 1 < count else 0
        struct.pack_into("<I", data, 8 + 4 * number + size, following)
    return bytes(data)


def _texts_behind_the_pixels() -> bytes:
    """A PNG with 300,000 empty texts behind its pixels."""
    text = b"tEXta\0"
    one = struct.pack(">I", 2) + text + struct.pack(">I", zlib.crc32(text))
    data = _png()
    return data[:-12] + one * 300_000 + data[-12:]


def _elements_without_end() -> bytes:
    """A PNG of a kilobyte whose XMP opens 200,000 elements and closes none."""
    packet = f'<x xmlns:p="{_CONTAINER}">' + "<p:a>" * 200_000
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet, zip=True)
    return _png(pnginfo=info)


def _png(**options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise_image(16, 16)).save(buffer, "PNG", **options)
    return buffer.getvalue()


def _cost_of(path: Path) -> tuple[int, float]:
    """Bytes and seconds that it takes to look at a picture and to read it."""
    started = time.process_time()

    def read() -> None:
        for look in (lambda: probe_picture(path, 178_956_970), lambda: read_picture(path)):
            with suppress(DiffIRError):
                look()

    return growth_of(read), time.process_time() - started


@pytest.mark.parametrize(
    "content",
    [
        _planes_without_strips,
        _strips_in_one_place,
        _endless_directories,
        _texts_behind_the_pixels,
        _elements_without_end,
    ],
)
def test_a_small_picture_takes_neither_long_nor_much_memory(
    content: Callable[[], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "picture"
    path.write_bytes(content())
    taken, seconds = in_own_process(_cost_of, path)
    assert taken < 2**28 and seconds < 15


@pytest.mark.parametrize("form", ['<p:a x="1">b<p:a>c</p:a>d</p:a>', "<p:a/>", "<p:a></p:a >"])
def test_elements_of_a_container_are_taken_out_whole(form: str) -> None:
    packet = f'<x xmlns:p="{_CONTAINER}" p:b="1"><y>k</y>{form}<y>l</y></x>'.encode()
    assert without_further_pictures(packet) == b"<x><y>k</y><y>l</y></x>"


def test_an_element_that_does_not_end_is_not_kept_in_part() -> None:
    packet = b'<x xmlns:xmpNote="http://ns.adobe.com/xmp/note/"><xmpNote:HasExtendedXMP>1</x>'
    assert without_extension(packet) is None


@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "PNG"])
def test_a_turned_picture_is_not_turned_again_by_what_its_xmp_says(
    kind: str, tmp_path: Path
) -> None:
    source, target = tmp_path / "in", tmp_path / "out.tif"
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    exif = Image.Exif()
    exif[274] = 6
    options: dict[str, Any] = {"xmp": packet}
    if kind == "TIFF":
        options = {"tiffinfo": {700: packet, 274: 6}}
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        options = {"pnginfo": info}
    image = Image.fromarray(noise_image(12, 20))
    image.save(source, kind, exif=exif, dpi=(200, 100), **options)
    picture = read_picture(source)
    assert picture.size == (12, 20)
    across, down = picture.metadata.dpi or (0, 0)
    assert (round(across), round(down)) == (100, 200)
    write_picture(picture, target)
    with Image.open(target) as found:
        assert found.getexif().get(274, 1) == 1
        assert b'tiff:Orientation="6"' not in (found.info.get("xmp") or b"")


_OWN = (".diffir-journal.jsonl", ".diffir-owner.json", ".diffir-lock", ".diffir-lock-1-of-2")


def test_a_stack_of_more_pages_than_are_counted_is_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff_directory, "_MOST_ENTRIES", 100)
    path = tmp_path / "stack.tif"
    page = Image.fromarray(noise_image(8, 8))
    page.save(path, save_all=True, append_images=[page] * 30)
    assert read_picture(path).size == (8, 8)


@pytest.mark.parametrize("name", _OWN)
def test_a_link_in_a_folder_changes_no_file_elsewhere(
    name: str, album: Path, batch: Any, tmp_path: Path
) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("precious\nunfinished")
    (album / name).symlink_to(victim)
    result = batch(album, "--in-place")
    assert victim.read_text() == "precious\nunfinished"
    refused = {"journal": "is no regular file", "lock": "Too many levels of symbolic links"}
    wording = next((text for part, text in refused.items() if part in name), None)
    assert result.exit_code == (3 if wording else 0), result.stderr
    assert (wording or "") in result.stderr
