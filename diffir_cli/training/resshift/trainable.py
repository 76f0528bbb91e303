"""ResShift as something that learns: the denoiser estimates x₀ at a random step (ResShift, Eq. 8).

For each sample of a batch, with t drawn from 0 … T − 1 and ε standard normal,

    x₀ = encode(GT);  y₀ = encode(↑LQ);  x_t = x₀ + η_t (y₀ − x₀) + κ√η_t ε
    L = |x̂₀(x_t, t, LQ) − x₀|²  +  w · perceptual(decode(x̂₀), GT)

The paper's weight of each step is left out, as its authors do. Whatever the network predicts, the
loss is that of the x₀ which follows; on pixels, encode and decode are the identity. Models of the
journal version add the perceptual term.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffir_cli.models.base import RestorationModel
from diffir_cli.models.resshift.checkpoint import (
    Component,
    load_autoencoder,
    load_denoiser,
    save_component,
)
from diffir_cli.models.resshift.config import ResShiftConfig
from diffir_cli.models.resshift.model import ResShiftModel
from diffir_cli.models.resshift.networks import ResShift, SwinUNet
from diffir_cli.models.resshift.networks.resshift import with_mask
from diffir_cli.models.resshift.networks.swin_layer import SwinBlock
from diffir_cli.models.resshift.networks.swin_unet import TimeResBlock
from diffir_cli.options import Precision
from diffir_cli.tensorfiles.containers import read_tensors
from diffir_cli.training.losses import frequency_loss, reconstruction_loss
from diffir_cli.training.parallel import World
from diffir_cli.training.perceptual import PerceptualLoss
from diffir_cli.training.recipe import Recipe
from diffir_cli.training.trainable import Batch, Noise


class TrainableResShift:
    """The denoiser of a ResShift model, which learns, and its autoencoder, which does not.

    Args:
        recipe: Which model.
        world: Where it learns.

    Raises:
        CheckpointError: when a file that the recipe names does not fit.
    """

    prior = None
    prepare = None

    def __init__(self, recipe: Recipe, world: World) -> None:
        config: ResShiftConfig = recipe.model
        self.recipe, self.device = recipe, world.device
        self.bf16 = recipe.precision is Precision.BF16
        self.network = _denoiser(recipe).to(world.device)
        autoencoder = None
        if config.latent:
            path = Path(recipe.autoencoder)
            autoencoder = load_autoencoder(read_tensors(path)[0], config, str(path))
            autoencoder.to(world.device)
        self.model = ResShift(self.network, autoencoder)
        self.perceptual: PerceptualLoss | None = None
        if recipe.perceptual.weights:
            self.perceptual = PerceptualLoss(Path(recipe.perceptual.weights)).to(world.device)

    @property
    def parts(self) -> Iterable[nn.Module]:
        """The embedding of the step, the extractor of LQ, and the U-Net."""
        net = self.network
        unet = [*net.input_blocks, net.middle_block, *net.output_blocks, net.out]
        return [net.time_embed, net.feature_extractor, nn.ModuleList(unet)]

    def losses(self, batch: Batch, noise: Noise, iteration: int) -> dict[str, Tensor]:
        """The distance of x̂₀ from x₀, and the perceptual term where the recipe has one."""
        del iteration
        with torch.no_grad(), self._autocast():
            lq = self._condition(batch.lq)
            x0 = self.model.encode_image(2 * batch.gt - 1).float()
            soft = None
            if batch.soft is not None:
                soft = self.model.encode_image(2 * batch.soft - 1).float()
            y0 = self.model.encode(lq).float()
        schedule = self.model.schedule
        steps = noise.steps(schedule.steps)
        epsilon = noise.normal(x0)
        rows = list(enumerate(steps))
        x_t = torch.stack([schedule.q_sample(x0[i], y0[i], epsilon[i], t) for i, t in rows])
        scaled = torch.stack([schedule.scale_input(x_t[i], t) for i, t in rows])
        times = torch.tensor([schedule.timesteps[t] for t in steps], device=self.device)
        with self._autocast():
            predicted = self.network(scaled, times, lq).float()
        kind = self.network.config.prediction
        x0_hat = torch.stack(
            [schedule.x0_from(predicted[i], x_t[i], y0[i], t, kind) for i, t in rows]
        )
        return self._terms(x0_hat, x0, soft, batch.gt)

    def _terms(
        self, x0_hat: Tensor, x0: Tensor, soft: Tensor | None, gt: Tensor
    ) -> dict[str, Tensor]:
        loss = self.recipe.loss
        # Pixels count as in [0, 1], like in the losses of all families; latents as they are.
        unit = 1.0 if self.network.config.latent else 0.5
        hq, gt_or_latent = unit * x0_hat, unit * x0
        rec = reconstruction_loss(hq, gt_or_latent, loss.pixel)
        if soft is not None:
            towards = reconstruction_loss(hq, unit * soft, loss.pixel)
            rec = torch.lerp(rec, towards, loss.soft_weight)
        terms = {"rec": rec}
        if loss.frequency_weight:
            terms["frequency"] = loss.frequency_weight * frequency_loss(hq, gt_or_latent)
        if self.perceptual is not None:
            with self._autocast():
                # The search for the nearest code has no gradient.
                hq = self.model.decode(x0_hat, quantise=False).float()
            distance = self.perceptual((hq + 1) / 2, gt)
            terms["perceptual"] = self.recipe.perceptual.weight * distance
        return terms

    def _condition(self, lq: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] as the denoiser reads it."""
        image = 2 * lq[:, :3] - 1
        return with_mask(image, lq[:, 3:]) if self.network.config.takes_mask else image

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, self.bf16)

    def after_update(self, batch: Batch, lr_share: float, lr_factor: float) -> float:
        """Nothing opposes the denoiser."""
        del batch, lr_share, lr_factor
        return 0.0

    def state_dict(self) -> dict[str, Any]:
        """Nothing but the denoiser learns."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing but the denoiser learns."""

    def restoration_model(self, network: nn.Module) -> RestorationModel:
        """A model with another denoiser, such as the averaged one."""
        assert isinstance(network, SwinUNet)
        return ResShiftModel(ResShift(network, self.model.autoencoder))

    def save(self, path: Path, network: nn.Module, header: Mapping[str, str]) -> None:
        """Write a denoiser as a weights file.

        Raises:
            CheckpointError: when it cannot be written.
        """
        save_component(Component.DENOISER, path, network, self.network.config, header)


def _denoiser(recipe: Recipe) -> SwinUNet:
    """The denoiser of `start`, or a new one."""
    if recipe.start:
        tensors = read_tensors(Path(recipe.start))[0]
        return load_denoiser(tensors, recipe.model, recipe.start).requires_grad_(True).train()
    network = SwinUNet(recipe.model)
    _initialise(network)
    return network


@torch.no_grad()
def _initialise(network: SwinUNet) -> None:
    """First weights with which every residual block is the identity and the output is zero.

    With a network that predicts the residual, the first x̂₀ is then y₀.
    """
    for module in network.modules():
        if isinstance(module, TimeResBlock):
            _zero(module.out_layers[-1])
        if isinstance(module, SwinBlock):
            _zero(module.attn.proj)
            _zero(module.mlp.fc2)
    _zero(network.out[-1])


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.zero_()
