"""What the names and shapes of an official file say of a ResShift model.

A denoiser's file also stores what can be computed: the indices of the relative positions, and the
masks of the shifted windows as they were in training. The masks show which rule the network learned
with, and are not used otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffir_cli.errors import CheckpointError
from diffir_cli.models.resshift.config import FACE, REALSR_V3, MaskRule, ResShiftConfig
from diffir_cli.models.resshift.networks.swin_layer import relative_position_index, shift_mask
from diffir_cli.tensorfiles.fitting import shapes_of

StateDict = Mapping[str, Tensor]


def without_prefixes(state: StateDict) -> dict[str, Tensor]:
    """The tensors without `module.` and `_orig_mod.` in front of their names."""
    return {re.sub(r"^(module\.|_orig_mod\.)+", "", name): value for name, value in state.items()}


def split_buffers(
    state: StateDict, source: str = "the file"
) -> tuple[dict[str, Tensor], StateDict]:
    """The parameters of a denoiser, and the masks that its file stores.

    Args:
        state: Official names without prefixes.
        source: What messages call the file.

    Returns:
        The parameters; the `attn_mask` buffers, (windows, window², window²) each.

    Raises:
        CheckpointError: when the positions in a window are numbered in an unknown way.
    """
    parameters, masks = {}, {}
    for name, value in state.items():
        if name.endswith(".relative_position_index"):
            side = math.isqrt(math.isqrt(value.numel()))
            if not torch.equal(value.long(), relative_position_index(side)):
                raise CheckpointError(
                    f"{source} numbers the positions in a window in an unknown way: {name!r}",
                    "is it a ResShift network? weights of other Swin networks cannot be used",
                )
        elif name.endswith(".attn_mask"):
            masks[name] = value
        else:
            parameters[name] = value
    return parameters, masks


def mask_rule(masks: StateDict, source: str = "the file") -> MaskRule | None:
    """The rule that stored masks follow; None where there are none.

    Only where they differ from zero counts, as averaging of weights may have changed the values.

    Args:
        masks: `attn_mask` buffers of square feature maps, (windows, window², window²) each.
        source: What messages call the file.

    Raises:
        CheckpointError: when they follow neither rule, or not all the same.
    """
    rules = {_rule_of(mask) for mask in masks.values()}
    if len(rules) > 1 or None in rules:
        raise CheckpointError(
            f"{source} stores masks of shifted windows that follow no known rule",
            "is it a ResShift network? weights of other Swin networks cannot be used",
        )
    return rules.pop() if rules else None


def _rule_of(mask: Tensor) -> MaskRule | None:
    if mask.dim() != 3 or mask.shape[1] != mask.shape[2] or not mask.numel():
        return None
    side, window = _mask_sides(mask)
    for rule in MaskRule:
        expected = shift_mask(side, side, window, rule)
        if expected.shape == mask.shape and torch.equal(mask != 0, expected != 0):
            return rule
    return None


def _mask_sides(mask: Tensor) -> tuple[int, int]:
    """Side of the square feature map that a stored mask is for, and of its windows."""
    window = math.isqrt(mask.shape[1])
    return math.isqrt(mask.shape[0]) * window, window


def infer_config(
    base: ResShiftConfig,
    denoiser: StateDict | None = None,
    autoencoder: StateDict | None = None,
    source: str = "the file",
) -> ResShiftConfig:
    """What names and shapes say of a model, in place of what `base` says.

    They do not show the schedule, the prediction, the groups of normalisations, and whether a model
    is latent; those are taken from `base`. Without an autoencoder, latents of 3 channels are taken
    for those of f4, and of 8 for those of f8, unless those of `base` have as many.

    Args:
        base: The rest of the configuration.
        denoiser: State dict of a denoiser; None leaves its fields as in `base`.
        autoencoder: State dict of an autoencoder; None leaves its fields as in `base`.
        source: What messages call the files.

    Raises:
        CheckpointError: when a part of a network is absent or of an impossible shape.
    """
    try:
        fields: dict[str, Any] = {}
        if autoencoder is not None:
            fields |= _autoencoder_fields(shapes_of(without_prefixes(autoencoder)))
        if denoiser is not None:
            parameters, masks = split_buffers(without_prefixes(denoiser), source)
            fields = _denoiser_fields(base, shapes_of(parameters)) | fields
            rule = mask_rule(masks, source)
            if rule is not None:
                fields["mask"] = rule
                fields["resolution"] = max(_mask_sides(mask)[0] for mask in masks.values())
            factor = 2 ** (len(fields.get("ae_multipliers", base.ae_multipliers)) - 1)
            stride = 2 ** _count(parameters, r"feature_extractor\.\d+\.op\.weight")
            fields["scale"] = (factor if base.latent else fields["unshuffle"]) // stride
        return replace(base, **fields)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{source} does not show which ResShift network it holds: {error}",
            "is the file complete? else give its configuration in a registry entry",
        ) from error


def _count(names: Mapping[str, Any], pattern: str) -> int:
    return sum(1 for name in names if re.fullmatch(pattern, name))


def _autoencoder_fields(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    width = shapes["encoder.conv_in.weight"][0]
    levels = 1 + _count(shapes, r"encoder\.down\.\d+\.downsample\.conv\.weight")
    outputs = [shapes[f"encoder.down.{level}.block.0.conv2.weight"][0] for level in range(levels)]
    codes, channels = shapes["quantize.embedding.weight"]
    return {
        "latent_channels": channels,
        "ae_width": width,
        "ae_multipliers": tuple(output // width for output in outputs),
        "ae_blocks": tuple(
            _count(shapes, rf"encoder\.down\.{level}\.block\.\d+\.conv1\.weight")
            for level in range(levels)
        ),
        "codes": codes,
    }


def _denoiser_fields(base: ResShiftConfig, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    width = shapes["time_embed.0.weight"][1]
    outputs: list[list[int]] = [[]]
    for number in range(1, _count(shapes, r"input_blocks\.\d+\.0\.(op|in_layers\.0)\.weight") + 1):
        block = f"input_blocks.{number}.0."
        if f"{block}op.weight" in shapes:
            outputs.append([])
        else:
            outputs[-1].append(shapes[f"{block}out_layers.3.weight"][0])
    layer = "input_blocks.1.1."
    swin_dim = shapes[f"{layer}patch_embed.proj.weight"][0]
    positions, heads = shapes[f"{layer}blocks.0.attn.relative_position_bias_table"]
    x_channels = shapes["out.2.weight"][0]
    extracted = shapes["input_blocks.0.0.weight"][1] - x_channels
    extractor = shapes.get("feature_extractor.0.weight")
    fields = {
        "takes_mask": (extractor[1] if extractor else extracted) == 4,
        "width": width,
        "multipliers": tuple(level[0] // width for level in outputs),
        "blocks": tuple(len(level) for level in outputs),
        "swin_dim": swin_dim,
        "swin_blocks": _count(shapes, re.escape(layer) + r"blocks\.\d+\.norm1\.weight"),
        "heads": heads,
        "window": (math.isqrt(positions) + 1) // 2,
        "mlp_ratio": shapes[f"{layer}blocks.0.mlp.fc1.weight"][0] // swin_dim,
        "extractor_width": extractor[0] if extractor else base.extractor_width,
        "unshuffle": 1 if base.latent else math.isqrt(x_channels // 3),
    }
    return fields | (_latent_fields(base, x_channels) if base.latent else {})


def _latent_fields(base: ResShiftConfig, channels: int) -> dict[str, Any]:
    """The autoencoder that is known by the channels of its latents, if it is not that of `base`."""
    names = ("latent_channels", "ae_width", "ae_multipliers", "ae_blocks", "codes")
    for known in (base, REALSR_V3, FACE):
        if channels == known.latent_channels:
            return {name: getattr(known, name) for name in names}
    return {"latent_channels": channels}
