"""LPIPS, DISTS and FID, computed by torchmetrics with the weights it fetches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffir_cli.errors import InputError, MissingLibraryError, WeightsError
from diffir_cli.evaluation.kinds import Metric


class Perceptual:
    """One learned metric over many pairs.

    Args:
        metric: Which.
        device: Where its network runs.
        offline: Whether the weights of the network may not be downloaded.

    Raises:
        MissingLibraryError: when torchmetrics, or what it needs for this metric, is not installed.
        WeightsError: when the weights of its network can neither be found nor fetched.
    """

    def __init__(self, metric: Metric, device: torch.device, offline: bool = False) -> None:
        self.metric, self.device = metric, device
        try:
            with _no_downloads() if offline else nullcontext():
                self.network: Any = _network(metric).to(device)
        # torchmetrics raises ModuleNotFoundError for itself and for what it needs, and lacks
        # attributes where that is missing.
        except (ImportError, AttributeError) as error:
            raise MissingLibraryError(
                f"{metric.value} cannot be measured: {error}", "pip install 'diffir-cli[metrics]'"
            ) from error
        # Whatever fetches the weights fails in its own way: URLError, OSError, RuntimeError.
        except Exception as error:
            raise WeightsError(
                f"cannot load the weights of {metric.value}: {error}",
                "connect to the network once, or copy ~/.cache/torch from a machine that has them",
            ) from error

    @torch.inference_mode()
    def score(self, hq: NDArray[np.uint8], gt: NDArray[np.uint8]) -> float | None:
        """The distance of two (H, W, 3) images in 0–255; None for FID, which a pair has not.

        Raises:
            InputError: when the network cannot take them, as when they are too small for it.
        """
        first, second = self._tensor(hq), self._tensor(gt)
        try:
            if self.metric is Metric.FID:
                self.network.update(first, real=False)
                self.network.update(second, real=True)
                return None
            return float(self.network(first / 255, second / 255))
        except (RuntimeError, ValueError) as error:
            height, width = gt.shape[:2]
            raise InputError(
                f"{self.metric.value} cannot be measured on {width}×{height} pixels: "
                f"{str(error).splitlines()[0]}",
                "leave out the image, or the metric",
            ) from error

    @torch.inference_mode()
    def overall(self) -> float | None:
        """FID of all pairs so far; None for the others, not a number for FID of a single pair."""
        if self.metric is not Metric.FID:
            return None
        if self.network.real_features_num_samples < 2:
            return math.nan
        return float(self.network.compute())

    def _tensor(self, image: NDArray[np.uint8]) -> Tensor:
        return torch.tensor(image).permute(2, 0, 1)[None].to(self.device)


@contextmanager
def _no_downloads() -> Iterator[None]:
    """Refuse what the libraries of metrics would download, all of them by way of torch.hub."""

    def refuse(url: str, *_arguments: object, **_settings: object) -> None:
        raise ConnectionError(f"downloads are off: {url}")

    download = torch.hub.download_url_to_file
    torch.hub.download_url_to_file = refuse
    try:
        yield
    finally:
        torch.hub.download_url_to_file = download


def _network(metric: Metric) -> Any:
    if metric is Metric.DISTS:
        # The network itself: torchmetrics' metric loads it anew for each pair.
        from torchmetrics.functional.image.dists import DISTSNetwork  # noqa: PLC0415

        return DISTSNetwork().eval()
    from torchmetrics import image  # noqa: PLC0415

    if metric is Metric.FID:
        return image.fid.FrechetInceptionDistance(normalize=False)
    net: Literal["vgg", "alex"] = "vgg" if metric is Metric.LPIPS_VGG else "alex"
    return image.lpip.LearnedPerceptualImagePatchSimilarity(net_type=net, normalize=True)
