"""The official names of a DiffIR network, and what names and shapes say about it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffir_cli.errors import CheckpointError
from diffir_cli.models.diffir.config import LEVELS, ModelConfig, Norm, Schedule, Tail
from diffir_cli.models.diffir.diffusion import NoiseSchedule
from diffir_cli.tensorfiles.fitting import shapes_of

_DUPLICATES = {"diffusion.condition.": "condition.", "diffusion.model.": "denoise."}
"""Modules that an official stage-2 file holds twice, and the copy that counts."""

_RENAMES: list[tuple[str, Any]] = [
    (r"^G\.", "dirformer."),
    (r"^condition\.", "cpen."),
    (r"^E\.", "cpen."),
    (r"^cpen\.E\.", "cpen.features."),
    (r"^denoise\.resmlp\.0\.", "denoiser.layers.0."),
    (r"^denoise\.resmlp\.(\d+)\.resmlp\.0\.", lambda m: f"denoiser.layers.{2 * int(m[1]) - 2}."),
    (r"^dirformer\.patch_embed\.proj\.", "dirformer.patch_embed."),
    (r"^dirformer\.encoder_level(\d)\.", lambda m: f"dirformer.encoder.{int(m[1]) - 1}."),
    (r"^dirformer\.down(\d)_\d\.body\.0\.", lambda m: f"dirformer.down.{int(m[1]) - 1}.0."),
    (r"^dirformer\.up(\d)_\d\.body\.0\.", lambda m: f"dirformer.up.{4 - int(m[1])}.0."),
    (r"^dirformer\.reduce_chan_level(\d)\.", lambda m: f"dirformer.reduce.{3 - int(m[1])}."),
    (r"^dirformer\.decoder_level(\d)\.", lambda m: f"dirformer.decoder.{3 - int(m[1])}."),
    (r"^dirformer\.tail\.0\.(\d)\.", r"dirformer.tail.\1."),
    (r"^dirformer\.tail\.1\.", "dirformer.tail.4."),
    (r"^dirformer\.output\.", "dirformer.tail.0."),
    (r"\.(norm\d)\.body\.", r".\1."),
    (r"\.attn\.", ".dmta."),
    (r"\.ffn\.", ".dgfn."),
    (r"\.kernel\.0\.", ".modulation.to_scale_shift."),
]
"""Official names to ours, applied in this order."""


def is_known(names: Iterable[str]) -> bool:
    """Whether parameters have the names of a DiffIR network, of either stage."""
    heads = {name.removeprefix("module.").split(".", 1)[0] for name in names}
    official = "G" in heads and bool(heads & {"E", "condition", "diffusion"})
    return official or {"dirformer", "cpen"} <= heads


def stage_of(names: Iterable[str]) -> int | None:
    """1 or 2, from official names or ours; None where they are of neither."""
    heads = {name.removeprefix("module.").split(".", 1)[0] for name in names}
    if heads & {"denoise", "denoiser", "condition"}:
        return 2
    return 1 if heads & {"E", "cpen"} else None


def detect_stage(path: Path, raw: Mapping[str, Tensor]) -> int:
    """1 or 2, from official names or ours.

    Raises:
        CheckpointError: when the names are those of no DiffIR network.
    """
    if stage := stage_of(raw):
        return stage
    first = ", ".join(repr(name[:60]) for name in list(raw)[:3])
    raise CheckpointError(
        f"{path} is not a DiffIR network: it has {len(raw)} tensors such as {first}",
        "is it the file you meant? weights of other networks cannot be used",
    )


def without_duplicates(
    path: Path, raw: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters once each, and the schedule buffers.

    Raises:
        CheckpointError: when the two copies of a parameter differ.
    """
    kept: dict[str, Tensor] = {}
    buffers: dict[str, Tensor] = {}
    for key, value in raw.items():
        duplicate = next(
            (key.replace(a, b, 1) for a, b in _DUPLICATES.items() if key.startswith(a)), None
        )
        if duplicate is not None:
            if duplicate in raw and not torch.equal(raw[duplicate], value):
                raise CheckpointError(
                    f"{path} holds two different copies of {duplicate!r}", "download the file again"
                )
            kept.setdefault(duplicate, value)
        elif key.startswith("diffusion."):
            buffers[key.removeprefix("diffusion.")] = value
        else:
            kept[key] = value
    return kept, buffers


def our_name(key: str) -> str:
    """The name of a parameter in `diffir_cli.models.diffir.networks`; ours stay as they are."""
    for pattern, ours in _RENAMES:
        key = re.sub(pattern, ours, key)
    return key


def infer_config(
    tensors: Mapping[str, Tensor], buffers: Mapping[str, Tensor], path: Path
) -> ModelConfig:
    """The configuration that names and shapes imply.

    What shapes cannot show is taken from the released networks, official and ours: no residual with
    a mask channel but for our light tails, and the default schedule unless the buffers give its
    length and ends.

    Raises:
        CheckpointError: when a part of the network is absent or of an impossible shape.
    """
    try:
        return _infer(tensors, buffers)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{path} does not show which DiffIR network it is: {error}",
            "is the file complete? else give its configuration in a registry entry",
        ) from error


def _infer(tensors: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> ModelConfig:
    shapes = shapes_of(tensors)
    levels = [*(f"dirformer.encoder.{i}." for i in range(LEVELS - 1)), "dirformer.latent."]
    dim, embed_channels = shapes["dirformer.patch_embed.weight"][:2]
    if "dirformer.tail.4.weight" in shapes:
        tail = Tail.SHUFFLE
    else:
        # A convolution makes 3 or 4 channels, or so many for each pixel that a shuffle spreads.
        rows = shapes["dirformer.tail.0.weight"][0]
        tail = _LIGHT_TAILS.get(rows, Tail.CONV)
    light = tail in (Tail.SHUFFLE_ONCE, Tail.SHUFFLE_TWO)
    # What the first convolution reads: 3, 4 or 6 channels, or 4 and a filling of the holes.
    read = {4: 4, 16: 4, 64: 4, 6: 6, 24: 6, 96: 6, 7: 7, 28: 7, 112: 7}.get(embed_channels, 3)
    in_channels = 4 if read == 7 else read
    scale = tail.factor // math.isqrt(embed_channels // read)
    cpen_dim, cpen_channels = shapes["cpen.features.0.weight"][:2]
    # Stage 2 reads in_channels·(stride/scale)² channels, stage 1 3·stride² more.
    gt_share = 0 if any(key.startswith("denoiser.") for key in shapes) else 3 * scale**2
    stride = scale * math.isqrt(cpen_channels // (in_channels + gt_share))
    norms = [key for key in shapes if key.endswith("norm1.weight")]
    if not norms:
        raise ValueError("it has no transformer block")
    config = ModelConfig(
        scale=scale,
        tail=tail,
        in_channels=in_channels,
        # Light tails are this project's own, whose inpainting adds to a smooth filling.
        residual=in_channels != 4 or read == 7 or light,
        prefill=read == 7 or (in_channels == 4 and light),
        coherence_fill=read == 7,
        gated=shapes[max(key for key in shapes if key.startswith("dirformer.tail."))][0] % 3 == 1,
        dim=dim,
        num_blocks=tuple(_count(shapes, level) for level in levels),  # type: ignore[arg-type]
        refinement_blocks=_count(shapes, "dirformer.refinement."),
        heads=tuple(
            shapes.get(f"{level}0.dmta.temperature", (2**i,))[0] for i, level in enumerate(levels)
        ),
        ffn_expansion=_expansion(shapes),
        norm=Norm.WITH_BIAS if norms[0].replace("weight", "bias") in shapes else Norm.BIAS_FREE,
        cpen_dim=cpen_dim,
        cpen_blocks=sum(1 for key in shapes if re.fullmatch(r"cpen\..*\.body\.0\.weight", key)),
        cpen_stride=stride,
        denoiser_blocks=_denoiser_blocks(shapes),
    )
    betas = buffers.get("betas")
    if betas is None or not betas.numel():
        return config
    ends = (round(float(betas[0]), 6), round(float(betas[-1]), 6))
    config = replace(config, steps=betas.numel(), beta_start=ends[0], beta_end=ends[1])
    linear = replace(config, schedule=Schedule.LINEAR)
    return linear if _fits(betas, linear) and not _fits(betas, config) else config


_LIGHT_TAILS = {
    48: Tail.SHUFFLE_ONCE,
    64: Tail.SHUFFLE_ONCE,
    12: Tail.SHUFFLE_TWO,
    16: Tail.SHUFFLE_TWO,
}
"""By the channels of their only convolution; the larger of two is that of a gated network."""


def _count(shapes: Mapping[str, tuple[int, ...]], level: str) -> int:
    return sum(1 for key in shapes if key.startswith(level) and key.endswith("norm1.weight"))


def _denoiser_blocks(shapes: Mapping[str, tuple[int, ...]]) -> int:
    layers = sum(1 for key in shapes if re.fullmatch(r"denoiser\.layers\.\d+\.weight", key))
    return layers - 1 if layers else ModelConfig.denoiser_blocks


def _expansion(shapes: Mapping[str, tuple[int, ...]]) -> float:
    """The shortest decimal e with int(C·e) = hidden for every DGFN."""
    pairs = {
        (shape[0], shape[1])
        for key, shape in shapes.items()
        if key.endswith("dgfn.project_out.weight")
    }
    for digits in range(1, 7):
        unit = 10**digits
        lowest = max(math.ceil(hidden * unit / channels) for channels, hidden in pairs) / unit
        if all(int(channels * lowest) == hidden for channels, hidden in pairs):
            return lowest
    raise ValueError("the hidden channels of the DGFNs follow no common expansion")


def _fits(betas: Tensor, config: ModelConfig) -> bool:
    expected = torch.tensor(NoiseSchedule.of(config).beta, dtype=torch.float64)
    return betas.shape == expected.shape and torch.allclose(betas.double(), expected, atol=1e-6)


def check_schedule(path: Path, buffers: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Compare the schedule stored in a file with that of a configuration.

    Raises:
        CheckpointError: when they differ.
    """
    if not buffers:
        return
    expected = schedule_buffers(NoiseSchedule.of(config))
    for name, value in buffers.items():
        if name in expected and (
            value.shape != expected[name].shape
            or not torch.allclose(value.double(), expected[name], rtol=1e-5, atol=1e-6)
        ):
            raise CheckpointError(
                f"{path} was trained with another noise schedule: its {name!r} is "
                f"{[round(number, 4) for number in value.flatten().tolist()[:8]]}",
                "give its schedule in a registry entry",
            )


def schedule_buffers(schedule: NoiseSchedule) -> dict[str, Tensor]:
    """The twelve tensors that an official file stores about its schedule, (T,) each, float64."""
    steps = range(schedule.steps)
    beta = torch.tensor(schedule.beta, dtype=torch.float64)
    bar = torch.tensor([schedule.alpha_bar(t) for t in steps], dtype=torch.float64)
    previous = torch.tensor([schedule.alpha_bar(t - 1) for t in steps], dtype=torch.float64)
    variance = torch.tensor([schedule.posterior_variance(t) for t in steps], dtype=torch.float64)
    weights = torch.tensor([schedule.posterior_coefficients(t) for t in steps], dtype=torch.float64)
    return {
        "betas": beta,
        "alphas_cumprod": bar,
        "alphas_cumprod_prev": previous,
        "sqrt_alphas_cumprod": bar.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - bar).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - bar).log(),
        "sqrt_recip_alphas_cumprod": bar.rsqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / bar - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": weights[:, 0],
        "posterior_mean_coef2": weights[:, 1],
    }
