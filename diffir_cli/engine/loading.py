"""Weights files to networks on a device."""

from __future__ import annotations

import torch

from diffir_cli.checkpoint import load_checkpoint, load_model, rebuild
from diffir_cli.config import Engine, ModelConfig, Precision, Task
from diffir_cli.engine.memory import Wish
from diffir_cli.engine.restorer import ModelRestorer
from diffir_cli.errors import WeightsError
from diffir_cli.networks import DiffIRS1, DiffIRS2
from diffir_cli.weightfile import WeightFile


def restorer_of(
    weights: WeightFile,
    task: Task,
    device: str = "auto",
    precision: Precision = Precision.AUTO,
    threads: int | None = None,
    engine: Engine = Engine.STREAMING,
    wish: Wish | None = None,
) -> ModelRestorer:
    """The stage-2 network of a weights file on a device.

    Args:
        weights: Which weights.
        task: What they are to be used for.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `xpu` or `mps`.
        precision: Number format of the DIRformer.
        threads: CPU threads for the whole process; None leaves torch's choice.
        engine: How the network is executed.
        wish: Limits of memory and tiles.

    Raises:
        CheckpointError: when the file cannot be read or trusted, is of stage 1, or does not fit.
        WeightsError: when the network cannot be one for the task.
        DeviceError: when the machine cannot provide device or precision.
    """
    model = load_model(weights.path, weights.config)
    _check_task(model.config, task, weights.name)
    return _on_device(model, device, precision, threads, engine, wish)


def load_any_stage(
    weights: WeightFile,
    task: Task,
    device: str = "auto",
    precision: Precision = Precision.AUTO,
    threads: int | None = None,
    engine: Engine = Engine.STREAMING,
    wish: Wish | None = None,
) -> ModelRestorer:
    """The network of a weights file of either stage, as `restorer_of` does for stage 2."""
    model = rebuild(load_checkpoint(weights.path, weights.config))
    _check_task(model.config, task, weights.name)
    return _on_device(model, device, precision, threads, engine, wish)


def _check_task(config: ModelConfig, task: Task, name: str) -> None:
    possible = _possible_tasks(config)
    if task not in possible:
        raise WeightsError(
            f"the network in {name} cannot be one for task {task.value!r}: "
            f"it makes pictures ×{config.scale} from {config.in_channels} channels",
            "use " + " or ".join(f"--task {kind.value}" for kind in possible),
        )


def _possible_tasks(config: ModelConfig) -> list[Task]:
    """The tasks that a network can be for, told from its input and output."""
    if config.in_channels == 4:
        return [Task.INPAINT]
    if config.in_channels == 6:
        return [Task.DEBLUR]
    return [Task.SR, Task.REALSR] if config.scale > 1 else [Task.REALSR, Task.DEBLUR]


def _on_device(
    model: DiffIRS1 | DiffIRS2,
    device: str,
    precision: Precision,
    threads: int | None,
    engine: Engine = Engine.STREAMING,
    wish: Wish | None = None,
) -> ModelRestorer:
    if threads is not None:
        torch.set_num_threads(threads)
    return ModelRestorer(model, device, precision, engine, wish)
