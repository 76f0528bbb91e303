"""Narrow models of ResShift, their files, and entries of a registry for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from diffir_cli.models.resshift.config import ResShiftConfig
from diffir_cli.models.resshift.family import FAMILY
from diffir_cli.models.resshift.networks import ResShift
from diffir_cli.util.files import file_sha256

NARROW = ResShiftConfig(
    width=16,
    multipliers=(1, 2),
    blocks=(1, 1),
    swin_dim=16,
    heads=2,
    resolution=16,
    groups=4,
    ae_width=8,
    codes=64,
)
FILLING = replace(NARROW, scale=1, takes_mask=True)
SMALL = replace(
    NARROW,
    scale=2,
    steps=3,
    width=8,
    blocks=(2, 1),
    swin_dim=8,
    window=4,
    ae_multipliers=(1, 2),
    ae_blocks=(1, 2),
)
MASKED = replace(SMALL, scale=1, takes_mask=True)
PIXELS = replace(SMALL, latent=False, scale=1, unshuffle=2, extractor_width=4)


def random_lq(config: ResShiftConfig, height: int, width: int) -> Tensor:
    return 2 * torch.rand(1, config.lq_channels, height, width) - 1


def random_noise(model: ResShift, lq: Tensor) -> Tensor:
    fields, *shape = model.noise_shape(*lq.shape[2:])
    return torch.randn(fields, len(lq), *shape)


def official_files(folder: Path, config: ResShiftConfig) -> dict[str, Path]:
    """A narrow model as the official files of a large one: two pickles, one with a prefix."""
    network = FAMILY.build(config).network
    assert network.autoencoder is not None
    denoiser, autoencoder = folder / "denoiser.pth", folder / "autoencoder.pth"
    state = {f"module.{name}": value for name, value in network.denoiser.state_dict().items()}
    torch.save({"state_dict": state}, denoiser)
    torch.save(network.autoencoder.state_dict(), autoencoder)
    return {"denoiser": denoiser, "autoencoder": autoencoder}


def entry(
    name: str,
    config: ResShiftConfig,
    files: dict[str, Path],
    urls: dict[str, str] | None = None,
    more: str = "",
) -> str:
    defaults = ResShiftConfig().to_dict()
    table = {k: v for k, v in config.to_dict().items() if v != defaults[k]}
    fields = ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
    lines = [
        f'[{name}]\nfamily = "resshift"\ntask = "realsr"\nscale = {config.scale}\n{more}',
        f'summary = "narrow"\nlicense = "none"\nsource = "here"\nmodel = {{ {fields} }}',
    ]
    for component, path in files.items():
        lines.append(f'[[{name}.files]]\ncomponent = "{component}"\nfile = "{path.name}"')
        lines.append(f'size = {path.stat().st_size}\nsha256 = "{file_sha256(path)}"')
        if urls:
            lines.append(f'urls = ["{urls[component]}"]')
    return "\n".join(lines) + "\n"
