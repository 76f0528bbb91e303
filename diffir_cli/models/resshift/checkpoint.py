"""Official files of ResShift: which network a state dict holds, and that network.

The modules of `networks/` have the official names, so nothing is renamed; prefixes that training
wrappers leave are removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from diffir_cli.errors import CheckpointError
from diffir_cli.models.resshift.config import REALSR_V3, ResShiftConfig
from diffir_cli.models.resshift.inferred_config import (
    StateDict,
    infer_config,
    mask_rule,
    split_buffers,
    without_prefixes,
)
from diffir_cli.models.resshift.networks import ResShift, SwinUNet, VQAutoencoder
from diffir_cli.models.resshift.networks.swin_layer import SwinBlock
from diffir_cli.tensorfiles.fitting import check_finite, fill
from diffir_cli.tensorfiles.writing import write_tensors

Network = TypeVar("Network", SwinUNet, VQAutoencoder)


class Component(StrEnum):
    """The networks of a ResShift model, each in a file of its own."""

    DENOISER = "denoiser"
    AUTOENCODER = "autoencoder"


def recognise(state: StateDict) -> Component | None:
    """Which network a state dict holds, by its names; None for that of another model."""
    names = set(without_prefixes(state))
    if names >= {"time_embed.0.weight", "input_blocks.1.1.patch_embed.proj.weight"}:
        return Component.DENOISER
    if names >= {"quantize.embedding.weight", "post_quant_conv.weight", "encoder.conv_in.weight"}:
        return Component.AUTOENCODER
    return None


def load_denoiser(state: StateDict, config: ResShiftConfig, source: str = "the file") -> SwinUNet:
    """The denoiser in a state dict, in eval mode on the CPU.

    Where the state dict stores masks of shifted windows, the rule they follow takes the place of
    `config.mask`.

    Args:
        state: Official names, with or without prefixes and buffers.
        config: What the network looks like.
        source: What messages call the file.

    Raises:
        CheckpointError: when it does not fit the configuration or cannot be trusted.
    """
    parameters, masks = split_buffers(without_prefixes(state), source)
    rule = mask_rule(masks, source)
    network = _fill(SwinUNet, replace(config, mask=rule or config.mask), parameters, source)
    shifted = {
        f"{name}.attn_mask"
        for name, module in network.named_modules()
        if isinstance(module, SwinBlock) and module.shift
    }
    if masks and set(masks) != shifted:
        raise CheckpointError(
            f"{source} shifts the windows of {len(masks)} blocks, where the configuration shifts "
            f"those of {len(shifted)}",
            "check that its resolution and window are those of the file",
        )
    return network


def load_autoencoder(
    state: StateDict, config: ResShiftConfig, source: str = "the file"
) -> VQAutoencoder:
    """The autoencoder in a state dict, in eval mode on the CPU.

    Args:
        state: Official names, with or without prefixes.
        config: What the network looks like.
        source: What messages call the file.

    Raises:
        CheckpointError: when it does not fit the configuration or cannot be trusted.
    """
    return _fill(VQAutoencoder, config, without_prefixes(state), source)


def choose_config(
    component: Component,
    state: StateDict,
    known: Iterable[ResShiftConfig],
    source: str = "the file",
) -> ResShiftConfig:
    """The configuration of a model of which only tensors are there.

    Those of an autoencoder show all that matters. Those of a denoiser do not show its schedule, so
    that only one of `known` may fit.

    Args:
        component: Which network it is.
        state: Official names, with or without prefixes and buffers.
        known: What the model may be.
        source: What messages call the file.

    Raises:
        CheckpointError: when the network is not whole or cannot be trusted, or several of `known`
            fit a denoiser, or none.
    """
    fitting = [config for config in dict.fromkeys(known) if _fits(component, state, config)]
    if component is Component.AUTOENCODER:
        return fitting[0] if fitting else infer_config(REALSR_V3, autoencoder=state, source=source)
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        # A damaged file has a fault that can be named.
        load_denoiser(state, infer_config(REALSR_V3, denoiser=state, source=source), source)
    raise CheckpointError(
        f"{source} does not show in which steps its denoiser works"
        + (": networks of several models have these shapes" if fitting else ""),
        "name the entry of the registry that it belongs to: --weights NAME",
    )


def _fits(component: Component, state: StateDict, config: ResShiftConfig) -> bool:
    try:
        (load_denoiser if component is Component.DENOISER else load_autoencoder)(state, config)
    except CheckpointError:
        return False
    return True


def load_model(
    config: ResShiftConfig, states: Mapping[Component, StateDict], source: str = "the file"
) -> ResShift:
    """A whole model from the state dicts of its networks, in eval mode on the CPU.

    Args:
        config: What the model looks like; see `infer_config`.
        states: The denoiser's, and the autoencoder's unless the model runs on pixels.
        source: What messages call the files.

    Raises:
        CheckpointError: when a network is missing, does not fit, or cannot be trusted.
    """
    wanted = set(Component) if config.latent else {Component.DENOISER}
    missing = sorted(wanted - set(states))
    if missing:
        raise CheckpointError(
            f"{source} lacks the {' and the '.join(missing)} of a ResShift model",
            "give the files of both networks",
        )
    denoiser = load_denoiser(states[Component.DENOISER], config, source)
    autoencoder = None
    if config.latent:
        autoencoder = load_autoencoder(states[Component.AUTOENCODER], config, source)
    return ResShift(denoiser, autoencoder).eval()


def save_component(
    component: Component,
    path: Path,
    network: nn.Module,
    config: ResShiftConfig,
    metadata: Mapping[str, str],
    half: bool = False,
) -> None:
    """Write a network of a model as safetensors with the configuration in the header.

    Args:
        component: Which network it is.
        path: The file; replaced atomically if it exists.
        network: A `SwinUNet` or a `VQAutoencoder`.
        config: Of the model.
        metadata: Further header entries, such as task, licence and source.
        half: Store fp16 instead of fp32; loading gives fp32 again.

    Raises:
        CheckpointError: when the file cannot be written, or a weight is too large for fp16.
    """
    header = {
        **metadata,
        "format": "diffir",
        "family": "resshift",
        "component": component.value,
        "config": json.dumps(config.to_dict()),
    }
    write_tensors(path, network.state_dict(), header, half)


def _fill(
    kind: type[Network], config: ResShiftConfig, state: Mapping[str, Tensor], source: str
) -> Network:
    """Build the network without initialising it, then load strictly."""
    with torch.device("meta"):
        network = kind(config)
    tensors = {name: value.float() for name, value in state.items()}
    filled = fill(network, tensors, source, kind.__name__)
    check_finite(tensors, source)
    return filled
