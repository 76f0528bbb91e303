"""The conventions of each benchmark: which channels, which pixels, which SSIM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diffir_cli.evaluation.align import best_shift, moved
from diffir_cli.evaluation.kinds import ProtocolName
from diffir_cli.evaluation.metrics import luma, psnr, shave, ssim, ssim_padded, ssim_volume

Image = NDArray[np.uint8]
"""(H, W, 3) in 0–255."""


@dataclass(frozen=True)
class Protocol:
    """How PSNR and SSIM of two 8-bit images are computed."""

    summary: str
    """What a reader of the scores must know."""
    channels: Callable[[Image], NDArray[np.generic]]
    """What of an image counts."""
    border: int
    """HQ pixels at the edges that do not count."""
    ssim: Callable[[NDArray[np.generic], NDArray[np.generic]], float]
    holes_only: bool = False
    """Whether PSNR counts the pixels in holes alone."""
    align: int = 0
    """Pixels by which a result may be moved to where it agrees best with the truth; as many more at
    the edges do not count."""

    def aligned(self, most: int) -> Protocol:
        """The same at the best shift of up to so many pixels; 0 for none."""
        if not most:
            return self
        summary = f"{self.summary}; at the best shift of up to {most} pixels, which the edges lack"
        return replace(self, summary=summary, align=most)

    def measure(
        self, hq: Image, gt: Image, holes: NDArray[np.bool_] | None = None
    ) -> dict[str, float]:
        """PSNR in dB and SSIM of a result.

        Args:
            hq: The result, (H, W, 3) in 0–255.
            gt: The truth, of the same shape.
            holes: (H, W), True where it was filled; needed when `holes_only`.
        """
        if self.align:
            hq = moved(hq, best_shift(hq, gt, self.align))
        border = self.border + self.align
        first, second = (self.channels(shave(image, border)) for image in (hq, gt))
        similarity = self.ssim(first, second)
        if self.holes_only:
            assert holes is not None
            inside = shave(holes, border)
            first, second = first[inside], second[inside]
        return {"psnr": psnr(first, second), "ssim": similarity}

    @property
    def smallest(self) -> int:
        """The shortest side that can be measured, in HQ pixels."""
        return 11 + 2 * (self.border + self.align)


def _rgb(image: Image) -> NDArray[np.generic]:
    return image


PROTOCOLS = {
    ProtocolName.SR: Protocol("luma, without a border of 4 pixels", luma, 4, ssim),
    ProtocolName.REALSR: Protocol("luma, without a border of 4 pixels", luma, 4, ssim),
    ProtocolName.DEBLUR: Protocol("RGB, SSIM over the volume as MATLAB's", _rgb, 0, ssim_volume),
    ProtocolName.INPAINT: Protocol(
        "RGB, PSNR inside the holes, SSIM of the whole picture", _rgb, 0, ssim_padded, True
    ),
}
"""Each benchmark's conventions by name."""
