"""`Restorer`: images in, images of the same kind out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from diffir_cli import Restorer
from tests.conftest import noise_image


@pytest.fixture
def restorer(s2_file: Path) -> Restorer:
    return Restorer("sr", str(s2_file), device="cpu")


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_an_array_gives_one_of_its_kind(kind: str, restorer: Restorer) -> None:
    lq = noise_image(9, 12)
    image: Any = {
        "uint8": lq,
        "uint16": lq.astype(np.uint16) * 257,
        "float32": lq.astype(np.float32) / 255,
    }[kind]
    hq = restorer.restore(image)
    white = 1 if kind == "float32" else np.iinfo(kind).max
    assert hq.dtype == image.dtype and hq.shape == (36, 48, 3)
    # The depths agree to half a level of 8 bits.
    eight = restorer.restore(lq).astype(float)
    assert np.abs(hq * (255 / white) - eight).max() <= 0.51


@pytest.mark.parametrize("shape", [(9, 12), (9, 12, 4)])
def test_grey_and_transparent_arrays_keep_their_channels(
    shape: tuple[int, ...], restorer: Restorer
) -> None:
    lq = noise_image(9, 12, 4)
    hq = restorer.restore(lq[:, :, 0] if len(shape) == 2 else lq)
    assert hq.shape == (36, 48, *shape[2:])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_an_image_of_pillow_keeps_its_mode_where_pixels_allow(
    mode: str, restorer: Restorer
) -> None:
    if mode == "I;16":
        image = Image.fromarray(noise_image(9, 12, 1).astype(np.uint16) * 257)
    else:
        image = Image.fromarray(noise_image(9, 12, 3 if mode == "P" else 4)).convert(mode)
    expected = {"1": "L", "P": "RGB", "CMYK": "RGB"}.get(mode, mode)
    hq = restorer.restore(image)
    assert isinstance(hq, Image.Image)
    assert (hq.mode, hq.size) == (expected, (48, 36))
    if mode == "RGB":
        same = restorer.restore(np.asarray(image))
        np.testing.assert_array_equal(np.asarray(hq), same)


def test_a_turned_image_comes_upright_with_its_exif(restorer: Restorer) -> None:
    image = Image.fromarray(noise_image(9, 12))
    image.getexif()[ExifTags.Base.Orientation] = 6
    image.getexif()[ExifTags.Base.Make] = "Kamera"
    hq = restorer.restore(image)
    assert hq.size == (36, 48)
    exif = Image.Exif()
    exif.load(hq.info["exif"])
    assert exif[ExifTags.Base.Make] == "Kamera"
    assert exif[ExifTags.Base.Software].startswith("diffir ")
    assert exif.get(ExifTags.Base.Orientation, 1) == 1


@pytest.mark.parametrize("kind", ["bool", "L", "I;16", "LA"])
def test_a_mask_says_where_to_fill(kind: str, inpaint_file: Path) -> None:
    restorer = Restorer("inpaint", str(inpaint_file), device="cpu")
    image, holes = noise_image(16, 24), np.zeros((16, 24), bool)
    holes[4:8, 4:8] = True
    greys = np.where(holes, 128, 127).astype(np.uint8)
    opacity = np.full_like(greys, 255)
    opacity[0, 0] = 0
    masks: dict[str, Any] = {
        "bool": holes,
        "L": Image.fromarray(greys),
        "I;16": Image.fromarray(np.where(holes, 32768, 32767).astype(np.uint16)),
        # What is transparent is no hole, whatever its colour.
        "LA": Image.fromarray(np.dstack([np.where(opacity, greys, 255).astype(np.uint8), opacity])),
    }
    mask = masks[kind]
    filled = restorer.restore(image, mask=mask)
    np.testing.assert_array_equal(filled[~holes], image[~holes])
    assert (filled[holes] != image[holes]).any()
    with pytest.raises(ValueError, match="takes a mask"):
        restorer.restore(image)
    with pytest.raises(ValueError, match="does not fit"):
        restorer.restore(image[:8], mask=mask)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((8,), np.uint8),
        np.zeros((8, 8, 3), np.int64),
        np.zeros((8, 8, 3), np.float64),
    ],
)
def test_what_is_no_image_is_a_value_error(image: Any, restorer: Restorer) -> None:
    with pytest.raises(ValueError, match="an image is"):
        restorer.restore(image)


def test_numbers_of_another_range_are_refused_and_a_hair_beyond_it_is_taken(
    restorer: Restorer,
) -> None:
    def image(low: float, high: float) -> Any:
        return np.linspace(low, high, 8 * 8 * 3, dtype=np.float32).reshape(8, 8, 3)

    for levels in ((0.0, 255.0), (-1.0, 1.0), (0.0, 1.1), (0.0, 65_535.0)):
        with pytest.raises(ValueError, match=r"fractions in \[0, 1\]"):
            restorer.restore(image(*levels))
    found = restorer.restore(image(-1e-7, 1.0000001))
    assert found.shape == (32, 32, 3) and found.dtype == np.float32


@pytest.mark.parametrize("argument", ["task", "precision", "engine"])
def test_an_argument_with_no_such_value_names_those_that_there_are(argument: str) -> None:
    with pytest.raises(ValueError, match=rf"^{argument} must be one of \w+, .*, not 'nope'$"):
        Restorer(**{argument: "nope"})  # type: ignore[arg-type]
