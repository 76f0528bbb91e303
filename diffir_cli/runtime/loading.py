"""Weights files to networks on a device."""

from __future__ import annotations

import torch

from diffir_cli.errors import WeightsError
from diffir_cli.models.base import ModelInfo, RestorationModel
from diffir_cli.models.families import find_family, recognise
from diffir_cli.options import RunOptions, Task
from diffir_cli.runtime.runner import ModelRunner
from diffir_cli.tensorfiles.containers import parameter_names
from diffir_cli.weights.locate import WeightFile


def load_runner(
    weights: WeightFile, task: Task, options: RunOptions | None = None, any_stage: bool = False
) -> ModelRunner:
    """The network of a weights file on a device.

    Args:
        weights: Which weights.
        task: What they are to be used for.
        options: How the network is run; None for the defaults.
        any_stage: Whether stage-1 networks, which see the ground truth, are accepted too.

    Raises:
        CheckpointError: when the file cannot be read or trusted, is of stage 1 and that is not
            accepted, or does not fit.
        WeightsError: when the network cannot be one for the task.
        DeviceError: when the machine cannot provide device or precision.
    """
    options = options or RunOptions()
    model = load_weights(weights, any_stage)
    _check_task(model.info, task, weights.name)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return ModelRunner(model, options)


def load_weights(weights: WeightFile, any_stage: bool = False) -> RestorationModel:
    """The network of a weights file, on the CPU.

    Args:
        weights: Which weights.
        any_stage: Whether stage-1 networks, which see the ground truth, are accepted too.

    Raises:
        CheckpointError: when the file cannot be read or trusted, is of stage 1 and that is not
            accepted, or does not fit.
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
