"""Weights to a `Restorer`."""

from __future__ import annotations

import torch

from diffir_cli.checkpoint import load_checkpoint, load_model, rebuild
from diffir_cli.config import Precision
from diffir_cli.engine.restorer import Restorer
from diffir_cli.networks import DiffIRS1, DiffIRS2
from diffir_cli.weightfile import WeightFile


def load_restorer(
    weights: WeightFile,
    device: str = "auto",
    precision: Precision = Precision.AUTO,
    threads: int | None = None,
) -> Restorer:
    """The stage-2 network of a weights file on a device.

    Args:
        weights: Which weights.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: Number format of the DIRformer.
        threads: CPU threads for the whole process; None leaves torch's choice.

    Raises:
        CheckpointError: when the file cannot be read or trusted, is of stage 1, or does not fit.
        DeviceError: when the machine cannot provide device or precision.
    """
    return _on_device(load_model(weights.path, weights.config), device, precision, threads)


def load_any_stage(
    weights: WeightFile,
    device: str = "auto",
    precision: Precision = Precision.AUTO,
    threads: int | None = None,
) -> Restorer:
    """The network of a weights file of either stage, as `load_restorer` does for stage 2."""
    model = rebuild(load_checkpoint(weights.path, weights.config))
    return _on_device(model, device, precision, threads)


def _on_device(
    model: DiffIRS1 | DiffIRS2,
    device: str,
    precision: Precision,
    threads: int | None,
) -> Restorer:
    if threads is not None:
        torch.set_num_threads(threads)
    return Restorer(model, device, precision)
