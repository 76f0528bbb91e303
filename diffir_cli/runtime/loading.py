"""Weights files to networks on a device."""

from __future__ import annotations

import torch

from diffir_cli.errors import WeightsError
from diffir_cli.models.base import ModelInfo, RestorationModel
from diffir_cli.models.families import find_family, recognise
from diffir_cli.options import ColorFix, Engine, MemoryLimits, Precision, Task
from diffir_cli.runtime.runner import ModelRunner
from diffir_cli.tensorfiles.containers import parameter_names
from diffir_cli.weights.locate import WeightFile


def load_runner(
    weights: WeightFile,
    task: Task,
    device: str = "auto",
    precision: Precision = Precision.AUTO,
    threads: int | None = None,
    engine: Engine = Engine.STREAMING,
    limits: MemoryLimits | None = None,
    any_stage: bool = False,
    color_fix: ColorFix = ColorFix.AUTO,
) -> ModelRunner:
    """The network of a weights file on a device.

    Args:
        weights: Which weights.
        task: What they are to be used for.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `xpu` or `mps`.
        precision: Number format of the network.
        threads: CPU threads for the whole process; None leaves torch's choice.
        engine: How the network is executed.
        limits: Of memory and tiles.
        any_stage: Whether a network that sees the truth will do.
        color_fix: Where the colours of results come from.

    Raises:
        CheckpointError: when the file cannot be read or trusted, sees the truth, or does not fit.
        WeightsError: when the network cannot be one for the task.
        DeviceError: when the machine cannot provide device or precision.
    """
    model = load_weights(weights, any_stage)
    _check_task(model.info, task, weights.name)
    if threads is not None:
        torch.set_num_threads(threads)
    return ModelRunner(model, device, precision, engine, limits, color_fix)


def load_weights(weights: WeightFile, any_stage: bool = False) -> RestorationModel:
    """The network of a weights file, on the CPU.

    Raises:
        CheckpointError: when the file cannot be read or trusted, sees the truth unless that will
            do, or does not fit.
    """
    if weights.family is not None:
        return find_family(weights.family).load(weights.files, weights.config, any_stage)
    path = weights.path
    family, component = recognise(parameter_names(path), path)
    return family.load({component: path}, weights.config, any_stage)


def _check_task(info: ModelInfo, task: Task, name: str) -> None:
    if task not in info.tasks:
        possible = [kind.value for kind in Task if kind in info.tasks]
        raise WeightsError(
            f"the network in {name} does not fit task {task.value!r}: its scale is "
            f"×{info.scale}" + (", and it needs a mask" if info.takes_mask else ""),
            "use " + " or ".join(f"--task {kind}" for kind in possible),
        )
