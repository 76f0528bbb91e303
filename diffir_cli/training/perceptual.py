"""The perceptual loss: distances of VGG19 features in front of their ReLU (Johnson et al. 2016).

The network is a plain VGG19 (Simonyan & Zisserman 2014, configuration E) without its classifier;
its weights are the user's to supply.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from diffir_cli.errors import CheckpointError
from diffir_cli.tensorfiles.containers import read_tensors

_BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions between two poolings."""
LAYER_WEIGHTS = {(1, 2): 0.1, (2, 2): 0.1, (3, 4): 1.0, (4, 4): 1.0, (5, 4): 1.0}
"""Weight of conv⟨block⟩_⟨number⟩ in the loss."""


class VGG19(nn.Module):
    """The convolutions of VGG19 under their usual names, `features.0` to `features.34`."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.places: dict[int, float] = {}
        channels = 3
        for block, (width, count) in enumerate(_BLOCKS, 1):
            for number in range(1, count + 1):
                if (block, number) in LAYER_WEIGHTS:
                    self.places[len(self.features)] = LAYER_WEIGHTS[block, number]
                self.features.append(nn.Conv2d(channels, width, 3, padding=1))
                self.features.append(nn.ReLU())
                channels = width
            self.features.append(nn.MaxPool2d(2))
        self.mean: Tensor
        self.std: Tensor
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("std", std[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> list[tuple[float, Tensor]]:
        """Weight and feature of each layer that counts, for a (B, 3, H, W) image in [0, 1]."""
        feature = (image - self.mean) / self.std
        found = []
        for place, layer in enumerate(self.features):
            feature = layer(feature)
            if place in self.places:
                found.append((self.places[place], feature))
            if len(found) == len(self.places):
                break
        return found


class PerceptualLoss(nn.Module):
    """Σ w · mean |VGG19(HQ) − VGG19(GT)| over five layers.

    Args:
        weights: A state dict of VGG19 with the usual names; a classifier in it is left out.

    Raises:
        CheckpointError: when the file cannot be read or trusted, or is not of VGG19.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.network = VGG19()
        own = self.network.state_dict()
        found = {name: value for name, value in read_tensors(weights)[0].items() if name in own}
        wrong = [name for name in own if name not in found or found[name].shape != own[name].shape]
        if wrong:
            raise CheckpointError(
                f"{weights} holds no VGG19: {len(wrong)} of {len(own)} tensors are missing or "
                f"misshapen, such as {wrong[0]}",
                "give a state dict with the names features.0.weight to features.34.bias",
            )
        self.network.load_state_dict(found)
        self.requires_grad_(False).eval()

    def forward(self, hq: Tensor, gt: Tensor) -> Tensor:
        """The loss of (B, 3, H, W) images in [0, 1]."""
        with torch.no_grad():
            wanted = self.network(gt)
        terms = [
            weight * (feature - target).abs().mean()
            for (weight, feature), (_, target) in zip(self.network(hq), wanted, strict=True)
        ]
        return torch.stack(terms).sum()
