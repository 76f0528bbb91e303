"""The loop around the losses: optimiser, schedule, average, state, log; it knows no loss itself.

A run is its folder: `state.pt` (replaced atomically), `log.csv`, `curves.png` and the averaged
weights as `<name>.safetensors`. The same recipe and folder continue where the state was saved, and
on a CPU the result is the same to the bit as that of a run never interrupted.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

from diffir_cli.checkpoint import load_stage1, save_weights
from diffir_cli.config import Precision
from diffir_cli.engine.device import choose_device
from diffir_cli.errors import DiffIRError, RecipeError
from diffir_cli.networks import DiffIRS1, DiffIRS2
from diffir_cli.training.data import Batch, PairCrops, load_pairs
from diffir_cli.training.ema import EMA
from diffir_cli.training.log import TrainingLog
from diffir_cli.training.parallel import World
from diffir_cli.training.recipe import LearningRate, Optimization, OptimizerRecipe, Recipe, digest
from diffir_cli.training.stage1 import stage1_losses
from diffir_cli.training.stage2 import Noise, stage2_losses
from diffir_cli.training.validate import Validation

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Where a run stands behind an iteration."""

    iteration: int
    """Iterations done."""
    share: float
    """How much of the schedule is done, in [0, 1]."""
    loss: float
    """Sum of the terms, averaged since the last report."""
    per_second: float
    """Iterations a second since the last report."""
    psnr: float | None = None
    """Validation PSNR in dB, when it was just measured."""


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    weights: Path
    """The averaged weights."""
    iterations: int
    """Iterations done in all."""
    minutes: float
    """Time spent in all."""
    finished: bool
    """False when a signal stopped it before its end."""


class Trainer:
    """One training run.

    Args:
        recipe: What to train.
        out: The folder of the run; made if absent.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        RecipeError: when the folder holds a run of another recipe.
        InputError: when a photo cannot be read.
        CheckpointError: when the stage-1 weights do not fit.
        DeviceError: when the machine cannot provide the device.
    """

    def __init__(self, recipe: Recipe, out: Path, device: str = "auto") -> None:
        self.recipe, self.out = recipe, out
        self.world = World.join(choose_device(device))
        if recipe.data.batch % self.world.size:
            raise RecipeError(
                recipe.name,
                [f"data.batch {recipe.data.batch} is no multiple of {self.world.size} processes"],
            )
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        self.teacher = load_stage1(recipe.init, recipe.model) if recipe.stage == 2 else None
        self.model = _build(recipe, self.teacher).to(self.world.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.teacher is not None:
            self.teacher.to(self.world.device)
        self.parameters = _trainable(self.model, recipe)
        self.ema = EMA(self.model, recipe.ema)
        self.optimizer = torch.optim.Adam(
            self.parameters, lr=recipe.optimizer.lr, betas=recipe.optimizer.betas
        )
        self.iteration, self.seconds = 0, 0.0
        self.losses: list[float] = []
        self._resume()
        scale = recipe.model.scale
        pairs = load_pairs(recipe.data.train, scale)
        data = recipe.data
        self.crops = PairCrops(pairs, scale, data.patch, data.augment, recipe.seed)
        self.validation = Validation.of(recipe) if self.world.is_first else None
        self.log = TrainingLog(out, self.iteration, self.world.is_first)

    def fit(self, report: Callable[[Progress], None] = lambda _progress: None) -> Result:
        """Train to the end of the schedule, or until SIGINT or SIGTERM.

        Args:
            report: Called behind every iteration that is logged or validated.

        Raises:
            DiffIRError: when the loss is no longer a number; the state before is kept.
        """
        with _stop_signals() as stopped:
            started = time.monotonic() - self.seconds
            reported, saved = (time.monotonic(), self.iteration), self.iteration
            while True:
                self.seconds = time.monotonic() - started
                share, stop = self.world.largest(self._share(), float(bool(stopped)))
                finished = share >= 1
                validate = finished or self._is_time(self.recipe.validation.every)
                if self.losses and (validate or self._is_time(self.recipe.log_every)):
                    now = time.monotonic()
                    speed = (self.iteration - reported[1]) / max(now - reported[0], 1e-9)
                    psnr = self._validate() if validate else None
                    loss = _mean(self.recipe.name, self.losses)
                    self._record(Progress(self.iteration, share, loss, speed, psnr), report)
                    self.losses, reported = [], (time.monotonic(), self.iteration)
                if stop or finished or self._is_time(self.recipe.save_every):
                    if self.iteration != saved:
                        self.save()
                    saved = self.iteration
                if stop or finished:
                    break
                self.losses.append(self._step(share))
        self.log.close()
        self.world.leave()
        return Result(self.weights, self.iteration, self.seconds / 60, finished)

    def _is_time(self, every: int) -> bool:
        return self.iteration % every == 0

    def save(self) -> None:
        """Write the state, then the averaged weights; each is there whole or not at all."""
        if not self.world.is_first:
            return
        state = {
            "digest": digest(self.recipe),
            "iteration": self.iteration,
            "seconds": self.seconds,
            "losses": self.losses,
            "model": self.model.state_dict(),
            "average": self.ema.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        temporary = self.out / "state.pt.part"
        torch.save(state, temporary)
        temporary.replace(self.out / "state.pt")
        header = {
            "name": self.recipe.name,
            "iterations": str(self.iteration),
            "minutes": f"{self.seconds / 60:.1f}",
        }
        save_weights(self.weights, self.ema.average, header)  # type: ignore[arg-type]

    @property
    def weights(self) -> Path:
        """Where the averaged weights are written."""
        return self.out / f"{self.recipe.name}.safetensors"

    def _resume(self) -> None:
        path = self.out / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.world.device, weights_only=True)
        if state["digest"] != digest(self.recipe):
            raise RecipeError(
                self.recipe.name,
                [f"{path} was made by a recipe with another model, data, loss or optimiser"],
            )
        self.model.load_state_dict(state["model"])
        self.ema.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.iteration, self.seconds = state["iteration"], state["seconds"]
        self.losses = state["losses"]
        _log.info("continuing at iteration %d", self.iteration)

    def _share(self) -> float:
        share = self.iteration / self.recipe.iterations
        if self.recipe.max_minutes:
            share = max(share, self.seconds / 60 / self.recipe.max_minutes)
        return min(share, 1.0)

    def _step(self, share: float) -> float:
        """One optimiser step; returns the loss before it."""
        rate = learning_rate(self.recipe.optimizer, self.iteration, share, self.recipe.iterations)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self._batch()
        with torch.autocast(
            self.world.device.type, torch.bfloat16, self.recipe.precision is Precision.BF16
        ):
            loss = torch.stack(list(self._losses(batch).values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.world.average_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, self.recipe.optimizer.clip)
        self.optimizer.step()
        self.ema.update(self.model, self.iteration)
        self.iteration += 1
        return float(loss.detach())

    def _batch(self) -> Batch:
        world = self.world
        batch = self.crops.batch(self.iteration, self.recipe.data.batch, world.rank, world.size)
        return Batch(
            batch.lq.to(world.device, memory_format=torch.channels_last),
            batch.gt.to(world.device, memory_format=torch.channels_last),
        )

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        if isinstance(self.model, DiffIRS1):
            return stage1_losses(self.model, batch)
        assert self.teacher is not None
        seed = (self.recipe.seed << 40) + self.iteration
        world = self.world
        return stage2_losses(
            self.model,
            self.teacher,
            batch,
            self.recipe.loss,
            Noise(seed, self.recipe.data.batch, world.rank, world.size),
            with_image=self.iteration >= self.recipe.loss.ipr_only,
        )

    def _validate(self) -> float | None:
        if self.validation is None:
            return None
        return self.validation.psnr(self.ema.average, self.world.device)  # type: ignore[arg-type]

    def _record(self, progress: Progress, report: Callable[[Progress], None]) -> None:
        rate = self.optimizer.param_groups[0]["lr"]
        self.log.add(progress.iteration, self.seconds / 60, progress.loss, rate, progress.psnr)
        report(progress)


def learning_rate(recipe: OptimizerRecipe, iteration: int, share: float, iterations: int) -> float:
    """The learning rate of an iteration.

    Args:
        recipe: The schedule.
        iteration: The iteration, counted from 0.
        share: How much of the schedule is done, in [0, 1]; ahead of the iterations in a run whose
            time is limited.
        iterations: Iterations of the whole schedule.
    """
    rise = min(1.0, (iteration + 1) / recipe.warmup) if recipe.warmup else 1.0
    if recipe.schedule is LearningRate.COSINE:
        fall = recipe.final + (1 - recipe.final) * (1 + math.cos(math.pi * share)) / 2
    else:
        place = share * iterations
        fall = recipe.gamma ** sum(1 for stone in recipe.milestones if 0 < stone <= place)
    return recipe.lr * rise * fall


def _build(recipe: Recipe, teacher: DiffIRS1 | None) -> DiffIRS1 | DiffIRS2:
    """A fresh network; stage 2 takes the teacher's DIRformer, stage 1 what fits of `init`."""
    if teacher is not None:
        student = DiffIRS2(recipe.model)
        student.dirformer.load_state_dict(teacher.dirformer.state_dict())
        return student
    model = DiffIRS1(recipe.model)
    if recipe.init:
        own = model.state_dict()
        taken = {
            name: value
            for name, value in load_stage1(recipe.init).state_dict().items()
            if name in own and own[name].shape == value.shape
        }
        model.load_state_dict(taken, strict=False)
        _log.info("%d of %d tensors are those of %s", len(taken), len(own), recipe.init)
    return model


def _trainable(model: nn.Module, recipe: Recipe) -> list[nn.Parameter]:
    if recipe.stage == 2 and recipe.loss.optimization is Optimization.TRADITIONAL:
        model.get_submodule("dirformer").requires_grad_(False)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _mean(name: str, losses: list[float]) -> float:
    mean = sum(losses) / len(losses)
    if not math.isfinite(mean):
        raise DiffIRError(
            f"the loss of {name} is no longer a number; the last saved state is kept",
            "run the same command with a lower learning rate: --set optimizer.lr=…",
        )
    return mean


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM fill while the block runs; a second signal acts as ever."""
    caught: list[int] = []
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        for name, handler in before.items():
            signal.signal(name, handler)

    for name in before:
        signal.signal(name, note)
    try:
        yield caught
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
