"""A photo and a calm shake, for the tests of what undoes shakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffir_cli.degradations.motion_blur import ShakeRanges
from diffir_cli.imaging import read_picture

CALM = ShakeRanges(length=(7.0, 7.0), averaged=1.0, noise=(0.5, 0.5))
LARGE = read_picture(Path(__file__).parent / "data" / "lighthouse-truth.webp").rgb
PHOTO = LARGE[300:556, 128:384]


def tensor(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1) / 255


def levels(image: Tensor) -> NDArray[np.uint8]:
    return (image * 255).round().byte().permute(1, 2, 0).numpy()
