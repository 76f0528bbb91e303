"""What is said about a picture, and what else is in its file: kept, or named as lost."""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffir_cli.errors import InputError
from diffir_cli.imaging import Picture, read_picture, write_picture
from diffir_cli.imaging.metadata import Metadata
from diffir_cli.imaging.png import chunk
from diffir_cli.imaging.probe import probe_picture
from tests.conftest import noise_image, run_cli, succeeded

HEAD = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    'syntax-ns#"><rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" dc:note="a boat" '
)
TAIL = "</rdf:Description></rdf:RDF></x:xmpmeta>"
GAIN_MAP_XMP = (
    HEAD + 'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" '
    'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
    'xmlns:Item="http://ns.google.com/photos/1.0/container/item/">'
    '<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item '
    'Item:Semantic="GainMap"/></rdf:li></rdf:Seq></Container:Directory>' + TAIL
).encode()
CAPTION = b"8BIM\x04\x04\0\0" + struct.pack(">I", 12) + b"\x1c\x02x\0\x07Caption"
UNDEFINED, THUMBNAIL, DISPARITY = 0, 0x010002, 0x020002


def _segment(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(data) + 2) + data


def _jpeg(path: Path, *segments: bytes, behind: bytes = b"") -> Path:
    """A JPEG of 12×9 pixels with more segments in front, and more behind."""
    Image.fromarray(noise_image(9, 12)).save(path, "JPEG")
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"".join(segments) + data[2:] + behind)
    return path


def _index(kind: int) -> bytes:
    """The segment by which an MPO says what its second picture is."""
    entries = struct.pack("<LLLHH", 0x030000, 0, 0, 0, 0) + struct.pack("<LLLHH", kind, 9, 9, 0, 0)
    rows = [(0xB000, 7, 4, b"0100"), (0xB001, 4, 1, struct.pack("<L", 2)), (0xB002, 7, 32, b"")]
    place = struct.pack("<L", 8 + 2 + 12 * 3 + 4)
    directory = struct.pack("<H", 3) + b"".join(
        struct.pack("<HHL", tag, type_, count) + (value or place)
        for tag, type_, count, value in rows
    )
    return _segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + directory + bytes(4) + entries)


def _second(tmp_path: Path) -> bytes:
    return _jpeg(tmp_path / "second.jpg").read_bytes()


def _gain_map(tmp_path: Path, name: str = "in.jpg") -> Path:
    xmp = _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + GAIN_MAP_XMP)
    return _jpeg(tmp_path / name, _index(UNDEFINED), xmp, behind=_second(tmp_path))


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_a_gain_map_is_named_as_lost_and_not_spoken_of(
    ending: str, restore: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / f"out{ending}"
    result = restore(_gain_map(tmp_path), out)
    assert result.exit_code == 0 and caplog.text.count("the gain map (HDR)") == 1
    data = out.read_bytes()
    for word in (b"hdrgm", b"hdr-gain-map", b"GainMap", b"container", b"MPF\0"):
        assert word not in data, word
    assert b"a boat" in data


@pytest.mark.parametrize(
    ("kind", "name"), [(DISPARITY, "the second view"), (UNDEFINED, "a further picture")]
)
def test_what_is_lost_is_named_in_a_folder_too_and_stripped_without_a_word(
    kind: int, name: str, s2_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _jpeg(tmp_path / "in.jpg", _index(kind), behind=_second(tmp_path))
    assert run_cli("batch", path, "-w", s2_file, "-o", tmp_path / "out").exit_code == 0
    assert name in caplog.text
    caplog.clear()
    command = ("batch", path, "-w", s2_file, "-o", tmp_path / "other", "--strip-metadata")
    assert run_cli(*command).exit_code == 0 and not caplog.text


@pytest.mark.parametrize(
    ("behind", "name"),
    [
        (b"", ""),
        (bytes(500), ""),
        (b"\0\0\0\x18ftypmp42" + bytes(50), "the video behind the photo"),
        (b"SEFT" * 20, "80 bytes behind the picture"),
    ],
)
def test_what_follows_the_end_of_a_jpeg_is_named(behind: bytes, name: str, tmp_path: Path) -> None:
    lost = read_picture(_jpeg(tmp_path / "in.jpg", behind=behind)).metadata.lost
    assert lost == ((name,) if name else ())


def test_a_jpeg_behind_another_is_found_without_an_index(tmp_path: Path) -> None:
    path = _jpeg(tmp_path / "in.jpg", behind=_second(tmp_path))
    assert read_picture(path).metadata.lost == ("a further picture",)


def test_in_place_nothing_is_replaced_that_would_be_lost(s2_file: Path, tmp_path: Path) -> None:
    stereo = _jpeg(tmp_path / "b.mpo", _index(DISPARITY), behind=_second(tmp_path))
    hidden = _jpeg(tmp_path / "c.jpg", behind=_second(tmp_path))
    for path in (_gain_map(tmp_path, "a.jpg"), stereo, hidden):
        before = path.read_bytes()
        command = ("batch", path, "--in-place", "-w", s2_file)
        result = run_cli(*command)
        assert result.exit_code == 3 and "--strip-metadata" in result.stderr, result.output
        assert path.read_bytes() == before
        if path is not hidden:
            # What is behind the picture is not read for a plan.
            assert "1 will fail" in run_cli(*command, "--dry-run").stderr
        assert run_cli(*command, "--strip-metadata").exit_code == 0
        assert path.read_bytes() != before


def test_a_picture_that_its_own_result_would_replace_is_kept_too(
    restore: Any, tmp_path: Path
) -> None:
    path = _gain_map(tmp_path)
    command = (path, path, "--overwrite")
    before = path.read_bytes()
    result = restore(*command)
    assert result.exit_code == 3 and "the gain map (HDR)" in result.stderr
    assert path.read_bytes() == before
    assert restore(*command, "--strip-metadata").exit_code == 0


def test_in_place_a_cameras_large_preview_is_no_loss(s2_file: Path, tmp_path: Path) -> None:
    path = _jpeg(tmp_path / "a.jpg", _index(THUMBNAIL), behind=_second(tmp_path))
    succeeded(run_cli("batch", path, "--in-place", "-w", s2_file))
    assert read_picture(path).size == (48, 36)


def _extended(tmp_path: Path) -> tuple[Path, list[bytes]]:
    whole = b"<x:xmpmeta>" + b"e" * 90_000 + b"</x:xmpmeta>"
    guid = hashlib.md5(whole).hexdigest().upper().encode()
    name = 'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="'
    main = (HEAD + name + guid.decode() + '">' + TAIL).encode()
    parts = [
        b"http://ns.adobe.com/xmp/extension/\0"
        + guid
        + struct.pack(">II", len(whole), start)
        + whole[start : start + 60_000]
        for start in (0, 60_000)
    ]
    segments = [_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + main)]
    segments += [_segment(0xE1, part) for part in parts]
    return _jpeg(tmp_path / "in.jpg", *segments), parts


def test_xmp_in_several_segments_goes_into_a_jpeg_whole(restore: Any, tmp_path: Path) -> None:
    path, parts = _extended(tmp_path)
    assert restore(path, tmp_path / "out.jpg").exit_code == 0
    data = (tmp_path / "out.jpg").read_bytes()
    assert all(part in data for part in parts) and b"HasExtendedXMP" in data


@pytest.mark.parametrize("ending", [".png", ".webp", ".tif"])
def test_elsewhere_its_loss_is_named_and_it_is_not_spoken_of(
    ending: str, restore: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, out = _extended(tmp_path)[0], tmp_path / f"out{ending}"
    assert restore(path, out).exit_code == 0
    assert "XMP that stands in further segments" in caplog.text
    data = out.read_bytes()
    assert b"HasExtendedXMP" not in data and b"a boat" in data


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("behind", [False, True])
def test_texts_of_a_png_are_kept(behind: bool, deep: bool, restore: Any, tmp_path: Path) -> None:
    texts = {"parameters": "a cat, Steps: 20", "Title": "Żółw", "long": "x" * 3000}
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    path = tmp_path / "in.png"
    pixels = noise_image(9, 12)
    write_picture(Picture(pixels.astype(np.uint16) * 257 if deep else pixels), path)
    Image.fromarray(pixels[:1, :1]).save(tmp_path / "texts.png", pnginfo=info)
    donor, data = (tmp_path / "texts.png").read_bytes(), path.read_bytes()
    chunks = donor[33 : donor.index(b"IDAT") - 4]
    place = data.index(b"IEND") - 4 if behind else 33
    path.write_bytes(data[:place] + chunks + data[place:])
    out = tmp_path / "out.png"
    assert restore(path, out).exit_code == 0
    with Image.open(out) as image:
        image.load()
        found: dict[str, str] = image.text  # type: ignore[attr-defined]
    assert {key: str(found[key]) for key in texts} == texts
    assert restore(path, out, "--overwrite", "--strip-metadata").exit_code == 0
    assert b"a cat" not in out.read_bytes()


def test_captions_and_comments_go_where_they_can(
    restore: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photoshop = b"Photoshop 3.0\0" + CAPTION + b"8BIM\x04\x0c\0\0\0\0\0\x04old!"
    path = _jpeg(tmp_path / "in.jpg", _segment(0xED, photoshop), _segment(0xFE, b"hello"))
    for ending, lost in (
        (".jpg", []),
        (".tif", ["the comment"]),
        (".png", ["the caption (IPTC)"]),
        (".webp", ["the comment", "the caption (IPTC)"]),
    ):
        caplog.clear()
        out = tmp_path / f"out{ending}"
        assert restore(path, out).exit_code == 0
        assert [
            name for name in ("the comment", "the caption (IPTC)") if name in caplog.text
        ] == lost
        data = out.read_bytes()
        # The preview that the resources hold shows the old picture.
        assert b"old!" not in data
        assert (b"Caption" in data) is ("the caption (IPTC)" not in lost)
        assert (b"hello" in data) is ("the comment" not in lost)
    back = tmp_path / "back.jpg"
    assert restore(tmp_path / "out.tif", back).exit_code == 0
    assert CAPTION in back.read_bytes()


def test_what_a_bmp_cannot_hold_is_named(
    restore: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exif = Image.Exif()
    exif[271] = "Kamera"
    Image.fromarray(noise_image(8, 8)).save(tmp_path / "in.jpg", exif=exif, xmp=b"<x/>")
    out = tmp_path / "out.bmp"
    assert restore(tmp_path / "in.jpg", out).exit_code == 0
    assert "XMP and EXIF" in caplog.text


@pytest.mark.parametrize("deep", [False, True])
def test_long_profiles_and_texts_that_are_written_are_read_again(
    deep: bool, tmp_path: Path
) -> None:
    profile = np.random.default_rng(0).bytes(1_500_000)
    icc = struct.pack(">I", len(profile)) + profile[4:16] + b"RGB " + profile[20:]
    texts = (("long", "y" * 2_000_000),)
    pixels = noise_image(8, 8).astype(np.uint16 if deep else np.uint8)
    write_picture(Picture(pixels, metadata=Metadata(icc=icc, texts=texts)), tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png", deep=True).metadata
    assert found.icc == icc and found.texts == texts
    assert probe_picture(tmp_path / "a.png", 10**6).size == (8, 8)


def test_a_text_that_unfolds_without_end_is_refused_for_what_it_is(tmp_path: Path) -> None:
    Image.fromarray(noise_image(8, 8)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    bomb = chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(2**26), 9))
    (tmp_path / "a.png").write_bytes(data[:33] + bomb + data[33:])
    with pytest.raises(InputError, match="unfolds to more than 32 MiB"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("ending", [".jpg", ".bmp"])
def test_an_alpha_channel_in_which_all_is_opaque_stands_in_no_ones_way(
    mode: str, ending: str, s2_file: Path, restore: Any, tmp_path: Path
) -> None:
    image: Any = Image.fromarray(noise_image(8, 8)).convert(mode)
    if mode == "P":
        image.info["transparency"] = b"\xff" * 8
    path, out = tmp_path / "in.png", tmp_path / f"out{ending}"
    image.save(path)
    assert probe_picture(path, 10**6).alpha
    succeeded(restore(path, out))
    folder = ("batch", path, "-w", s2_file, "-o", tmp_path / "out", "-f", ending[1:])
    assert run_cli(*folder).exit_code == 0
    if mode == "RGBA":
        image.putpixel((3, 3), (1, 2, 3, 200))
        image.save(path)
        assert restore(path, out, "--overwrite").exit_code == 3
        assert "1 will fail" in run_cli(*folder, "--dry-run").stderr


@pytest.mark.parametrize("masks", [(0xF800, 0x07E0, 0x001F), (0x7C00, 0x03E0, 0x001F)])
def test_a_bmp_of_sixteen_bits_a_pixel_is_read(masks: Any, restore: Any, tmp_path: Path) -> None:
    rgb = noise_image(8, 8)
    red, green, blue = (rgb[:, :, place].astype(int) / 255 for place in range(3))
    whites = [mask // (mask & -mask) for mask in masks]
    values = sum(
        np.rint(plane * white).astype(int) * (mask & -mask)
        for plane, white, mask in zip((red, green, blue), whites, masks, strict=True)
    )
    data = np.asarray(values, "<u2")[::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 16, 3, len(data), 0, 0, 0, 0)
    start = 14 + len(header) + 12
    file = struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start)
    (tmp_path / "in.bmp").write_bytes(file + header + struct.pack("<3I", *masks) + data)
    found = read_picture(tmp_path / "in.bmp")
    assert not found.deep and np.abs(found.rgb.astype(int) - rgb).max() <= 8
    out = tmp_path / "out.bmp"
    assert restore(tmp_path / "in.bmp", out).exit_code == 0


def test_content_credentials_are_named(tmp_path: Path) -> None:
    found = read_picture(_jpeg(tmp_path / "in.jpg", _segment(0xEB, b"JP\0\x01" + bytes(20))))
    assert found.metadata.lost == ("the content credentials (C2PA)",)
