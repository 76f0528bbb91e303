"""DiffIR as an architecture of spandrel, for chaiNNer and whatever else loads models with it.

    import diffir_cli.integrations.spandrel
    diffir_cli.integrations.spandrel.install()
    model = spandrel.ModelLoader().load_from_file("realsr-x4.pth")

Our safetensors files are loaded, and the official ones that spandrel can open. It hands over
tensors without the header of their file, so the configuration is inferred from their shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from spandrel import (
    MAIN_REGISTRY,
    Architecture,
    ArchRegistry,
    ArchSupport,
    ImageModelDescriptor,
    MaskedImageModelDescriptor,
    ModelTiling,
)
from torch import Tensor, nn

from diffir_cli.models.diffir.checkpoint import checkpoint_of, rebuild_stage2
from diffir_cli.models.diffir.model import initial_noise
from diffir_cli.models.diffir.networks import DiffIRS2
from diffir_cli.models.diffir.official_names import is_known
from diffir_cli.models.diffir.priors.preparing import needs_preparing, prepared
from diffir_cli.util.padding import pad

_GENERATOR = "generator."
"""What Lightning puts in front of the names of the inpainting networks."""


class DiffIRArch(Architecture[nn.Module]):
    """Finds out whether tensors are those of a stage-2 network, and makes it of them."""

    def __init__(self) -> None:
        super().__init__(id="DiffIR", name="DiffIR", detect=is_diffir)

    def load(
        self, state_dict: Mapping[str, Any]
    ) -> ImageModelDescriptor[nn.Module] | MaskedImageModelDescriptor[nn.Module]:
        """The network of tensors under official names or ours.

        Raises:
            CheckpointError: when they are of stage 1, incomplete, or not numbers.
        """
        tensors = _named(state_dict)
        network = rebuild_stage2(checkpoint_of(Path("the model"), tensors, {}))
        config = network.config
        model = SeededNetwork(network).eval()
        about: dict[str, Any] = {
            "model": model,
            "state_dict": model.state_dict(),
            "architecture": self,
            "tags": [f"{config.dim}dim", f"{config.ipr_dim}ipr"],
            # CPEN and the denoiser decide over the whole picture: they stay in fp32.
            "supports_half": False,
            "supports_bfloat16": False,
            "input_channels": 3,
            "output_channels": 3,
            # The IPR is one of the whole picture.
            "tiling": ModelTiling.DISCOURAGED,
        }
        if config.in_channels == 4:
            return MaskedImageModelDescriptor(purpose="Inpainting", **about)
        purpose = "SR" if config.scale > 1 else "Restoration"
        return ImageModelDescriptor(purpose=purpose, scale=config.scale, **about)


class SeededNetwork(nn.Module):
    """A stage-2 network with the noise of seed 0, for pictures of any size."""

    def __init__(self, network: DiffIRS2) -> None:
        super().__init__()
        self.network = network

    @torch.no_grad()
    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Restore a picture.

        Args:
            image: (B, 3, H, W) in [0, 1], float32.
            mask: (B, 1, H, W), more than 0 in the holes; for an inpainting network.

        Returns:
            (B, 3, scale·H, scale·W), not clamped; outside the holes `image` itself.
        """
        config = self.network.config
        if mask is not None:
            mask = (mask > 0).to(image)
        lq = image if mask is None else torch.cat([image * (1 - mask), mask], dim=1)
        if needs_preparing(config):
            lq = torch.cat([prepared(config, one) for one in lq.cpu().split(1)]).to(lq)
        noise = initial_noise(config, 0).to(lq).expand(len(lq), -1)
        hq: Tensor = self.network(pad(lq, config.multiple, config.in_channels == 4), noise)
        height, width = image.shape[-2:]
        hq = hq[..., : config.scale * height, : config.scale * width]
        return hq if mask is None else torch.where(mask > 0, hq, image)


def is_diffir(state_dict: Mapping[str, Any]) -> bool:
    """Whether tensors are a DiffIR network's, of either stage."""
    return is_known(_named(state_dict))


def install(registry: ArchRegistry | None = None) -> None:
    """Make spandrel know DiffIR; once is enough, twice does no harm.

    Args:
        registry: Which of spandrel's registries; None for the one that all loaders use.
    """
    registry = MAIN_REGISTRY if registry is None else registry
    # Asked first, since other architectures look at fewer names.
    others = tuple(one.architecture.id for one in registry)
    registry.add(ArchSupport.from_architecture(DiffIRArch(), others), ignore_duplicates=True)


def _named(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors without what Lightning puts in front of their names, and without its other parts."""
    found = {
        name.removeprefix(_GENERATOR): value
        for name, value in state_dict.items()
        if name.startswith(_GENERATOR)
    }
    return found or dict(state_dict)
