"""Files to models: safetensors and the official containers, without running a pickle.

Four containers are recognised: safetensors; a dict with `params_ema` or `params` (sr, realsr and
deblur); a Lightning dict with `state_dict` and the prefix `generator.` (inpaint); a flat dict. Each
may carry the prefix `module.`. Official names are translated to those of
`diffir_cli.models.diffir.networks`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from diffir_cli.errors import CheckpointError
from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.models.diffir.official_names import (
    check_schedule,
    detect_stage,
    infer_config,
    our_name,
    without_duplicates,
)
from diffir_cli.tensorfiles.containers import read_tensors
from diffir_cli.tensorfiles.fitting import check_finite, config_in_header, fill, no_fit
from diffir_cli.tensorfiles.writing import write_tensors

Network = TypeVar("Network", DiffIRS1, DiffIRS2)


@dataclass(frozen=True)
class Checkpoint:
    """The content of a weights file."""

    path: Path
    """Where it was read."""
    tensors: dict[str, Tensor]
    """Parameters under the names of `diffir_cli.models.diffir.networks`, float32."""
    stage: int
    """1 or 2, inferred from the names."""
    config: ModelConfig
    """From the file's header if it has one, else inferred from names and shapes."""
    metadata: dict[str, str]
    """The header of a safetensors file, else empty."""


def load_model(path: str | Path, config: ModelConfig | None = None) -> DiffIRS2:
    """The stage-2 network in a file, in eval mode on the CPU.

    Args:
        path: A weights file in any of the known containers.
        config: What the network must look like; None takes what the file says or its shapes imply.

    Raises:
        CheckpointError: when the file cannot be read or trusted, is of stage 1, or does not fit.
    """
    return rebuild_stage2(load_checkpoint(path, config))


def load_stage1(path: str | Path, config: ModelConfig | None = None) -> DiffIRS1:
    """The stage-1 network in a file, in eval mode on the CPU.

    Raises:
        CheckpointError: when the file cannot be read or trusted, is of stage 2, or does not fit.
    """
    checkpoint = load_checkpoint(path, config)
    if checkpoint.stage != 1:
        raise CheckpointError(
            f"{path} holds a stage-2 network, but a stage-1 network is needed",
            "give the weights of stage 1, such as runs/NAME-s1/NAME-s1.safetensors",
        )
    return _fill(DiffIRS1, checkpoint)


def load_state(path: str | Path) -> dict[str, Tensor]:
    """The parameters in a file under the names of our networks, float32 on the CPU.

    Raises:
        CheckpointError: when the file cannot be read or trusted.
    """
    return load_checkpoint(path).tensors


def load_checkpoint(path: str | Path, config: ModelConfig | None = None) -> Checkpoint:
    """Everything in a file.

    Args:
        path: A weights file in any of the known containers.
        config: What the network looks like; None takes what the file says or its shapes imply.

    Raises:
        CheckpointError: when the file cannot be read or trusted.
    """
    path = Path(path)
    return checkpoint_of(path, *read_tensors(path), config)


def checkpoint_of(
    path: Path,
    raw: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    config: ModelConfig | None = None,
) -> Checkpoint:
    """What named tensors are.

    Args:
        path: What messages call them.
        raw: Under official names or ours.
        metadata: The header of their file.
        config: What the network looks like; None takes what the header says or shapes imply.

    Raises:
        CheckpointError: when they are no network's, or cannot be trusted.
    """
    raw = {key.removeprefix("module."): value for key, value in raw.items()}
    raw, buffers = without_duplicates(path, raw)
    stage = detect_stage(path, raw)
    tensors = {our_name(key): value.float() for key, value in raw.items()}
    check_finite(tensors, path)
    if config is None and "config" in metadata:
        config = config_in_header(ModelConfig, metadata["config"], path)
    config = config or infer_config(tensors, buffers, path)
    check_schedule(path, buffers, config)
    return Checkpoint(path, tensors, stage, config, dict(metadata))


def rebuild(checkpoint: Checkpoint) -> DiffIRS1 | DiffIRS2:
    """The network of a checkpoint, of whichever stage, in eval mode on the CPU.

    Raises:
        CheckpointError: when parameters are missing, surplus or misshaped.
    """
    if checkpoint.stage == 2:
        return _fill(DiffIRS2, checkpoint)
    return _fill(DiffIRS1, checkpoint)


def rebuild_stage2(checkpoint: Checkpoint) -> DiffIRS2:
    """The stage-2 network of a checkpoint, in eval mode on the CPU.

    Raises:
        CheckpointError: when it is of stage 1, or parameters are missing, surplus or misshaped.
    """
    if checkpoint.stage != 2:
        raise CheckpointError(
            f"{checkpoint.path} holds a stage-1 network, which needs the ground truth to restore "
            "an image",
            "give the weights of stage 2, such as runs/NAME-s2/NAME-s2.safetensors",
        )
    return _fill(DiffIRS2, checkpoint)


def save_weights(
    path: str | Path, model: DiffIRS1 | DiffIRS2, metadata: Mapping[str, str], half: bool = False
) -> None:
    """Write a network as safetensors with its configuration in the header.

    Args:
        path: The file; replaced atomically if it exists.
        model: The network.
        metadata: Further header entries, such as task, licence and source.
        half: Store fp16 instead of fp32; loading gives fp32 again.

    Raises:
        CheckpointError: when the file cannot be written, or a weight is too large for fp16.
    """
    header = {
        **metadata,
        "format": "diffir",
        "stage": "1" if isinstance(model, DiffIRS1) else "2",
        "config": json.dumps(model.config.to_dict()),
    }
    write_tensors(Path(path), model.state_dict(), header, half)


def _fill(kind: type[Network], checkpoint: Checkpoint) -> Network:
    """Build the network without initialising it, then load strictly."""
    config = checkpoint.config
    blocks = 2 * sum(config.num_blocks) + config.refinement_blocks + config.cpen_blocks
    if blocks > len(checkpoint.tensors) + sum(config.num_blocks):
        # Not even to build it, which takes long.
        why = f"{len(checkpoint.tensors)} tensors for {blocks} blocks"
        raise no_fit(checkpoint.path, "network", why)
    with torch.device("meta"):
        model = kind(config)
    return fill(model, checkpoint.tensors, checkpoint.path, "network")
