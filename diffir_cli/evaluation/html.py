"""One self-contained page: each image before, after and in truth behind a slider, with scores."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffir_cli.evaluation.report import number, title

_LONGEST = 1024
"""Pixels of the longest side on the page; larger images are shrunk."""


class Gallery:
    """Images for a page, kept as compressed JPEG.

    Args:
        heading: What the page is called.
        caption: A sentence below it.
    """

    def __init__(self, heading: str, caption: str) -> None:
        self.heading, self.caption = heading, caption
        self.columns: list[str] = []
        self.failures: list[tuple[str, str]] = []
        """Names of images that could not be shown, and why."""
        self.images: list[dict[str, Any]] = []

    def add(
        self, name: str, pictures: Mapping[str, NDArray[np.uint8]], scores: Mapping[str, float]
    ) -> None:
        """One image more.

        Args:
            name: What it is called.
            pictures: `before`, `after` and `truth`, as many as there are, (H, W, 3) in 0–255; all
                are shown at the size of the last.
            scores: Its metrics by name; every image must have the same ones.
        """
        self.columns = [title("", metric, False) for metric in scores]
        last = list(pictures.values())[-1]
        shrink = min(1.0, _LONGEST / max(last.shape[:2]))
        size = (max(1, round(last.shape[1] * shrink)), max(1, round(last.shape[0] * shrink)))
        self.images.append(
            {
                "name": name,
                **{kind: _data_url(picture, size) for kind, picture in pictures.items()},
                "values": [value if math.isfinite(value) else None for value in scores.values()],
                "texts": [number(metric, value) for metric, value in scores.items()],
            }
        )

    def page(self) -> str:
        """The page as HTML that needs nothing beside it."""
        data = {
            "title": self.heading,
            "caption": self.caption,
            "columns": self.columns,
            "images": self.images,
            "failures": self.failures,
        }
        # A name may hold "</script>".
        safe = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
        template = Path(__file__).with_name("gallery.html").read_text(encoding="utf-8")
        return template.replace("{{data}}", safe)


def is_page(path: Path) -> bool:
    """Whether a file is a page that diffir has written.

    Raises:
        OSError: when it cannot be read.
    """
    with path.open("rb") as file:
        return b"<title>diffir</title>" in file.read(1024)


def _data_url(picture: NDArray[np.uint8], size: tuple[int, int]) -> str:
    enlarged = picture.shape[1] < size[0]
    resampling = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    image = Image.fromarray(picture)
    if image.size != size:
        image = image.resize(size, resampling)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
