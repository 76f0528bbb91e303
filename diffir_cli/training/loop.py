"""The loop around the losses: optimiser, average, state, log; it knows no loss itself.

A run is its folder: `state.pt` (replaced atomically), `log.csv`, `curves.png` and the averaged
weights as `<name>.safetensors`. The same recipe and folder continue where the state was saved. On a
CPU, without a time limit, the result is the same to the bit as that of a run never interrupted.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diffir_cli.checkpoint import load_stage1, load_state, save_weights
from diffir_cli.config import Precision
from diffir_cli.engine.device import choose_device
from diffir_cli.errors import CheckpointError, DiffIRError, InputError, RecipeError
from diffir_cli.files import whole_file
from diffir_cli.networks import DiffIRS1, DiffIRS2
from diffir_cli.training.data import Batch, Crops, Prefetched
from diffir_cli.training.ema import EMA
from diffir_cli.training.log import TrainingLog
from diffir_cli.training.parallel import World
from diffir_cli.training.recipe import Optimization, Recipe, digest
from diffir_cli.training.schedule import learning_rate
from diffir_cli.training.signals import stop_signals
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
        InputError: when a photo cannot be read, or the folder not be made.
        CheckpointError: when the stage-1 weights do not fit, or the saved state is damaged.
        DeviceError: when the machine cannot provide the device.
    """

    def __init__(self, recipe: Recipe, out: Path, device: str = "auto") -> None:
        self.recipe, self.out = recipe, out
        self.world = World.join(choose_device(device))
        for _, _, batch in recipe.data.sizes():
            if batch % self.world.size:
                fault = f"a batch of {batch} is no multiple of {self.world.size} processes"
                raise RecipeError(recipe.name, [fault])
        torch.manual_seed(recipe.seed)
        self.teacher = load_stage1(recipe.init, recipe.model) if recipe.stage == 2 else None
        _make_folder(out)
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
        self.digest = {**digest(recipe), "init": _hash(recipe.init)}
        self._resume()
        self.crops = Prefetched(partial(_own_share, Crops.of(recipe), self.world))
        self.validation = Validation.of(recipe) if self.world.is_first else None
        self.log = TrainingLog(out, self.iteration, self.world.is_first)

    def fit(self, report: Callable[[Progress], None] = lambda _progress: None) -> Result:
        """Train to the end of the schedule, or until SIGINT or SIGTERM.

        Args:
            report: Called behind every iteration that is logged or validated.

        Raises:
            DiffIRError: when loss or gradient are no longer numbers; the state before is kept.
        """
        with stop_signals() as stopped:
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
                    loss = sum(self.losses) / len(self.losses)
                    self._record(Progress(self.iteration, share, loss, speed, psnr), report)
                    self.losses, reported = [], (time.monotonic(), self.iteration)
                if stop or finished or self._is_time(self.recipe.save_every):
                    if self.iteration != saved or not self.weights.exists():
                        self.save()
                    saved = self.iteration
                if stop or finished:
                    break
                self.losses.append(self._iterate(share))
        self.crops.close()
        self.log.close()
        self.world.leave()
        return Result(self.weights, self.iteration, self.seconds / 60, finished)

    def save(self) -> None:
        """Write the averaged weights, then the state; each is there whole or not at all."""
        if not self.world.is_first:
            return
        header = {
            "name": self.recipe.name,
            "iterations": str(self.iteration),
            "minutes": f"{self.seconds / 60:.1f}",
        }
        state = {
            "digest": self.digest,
            "iteration": self.iteration,
            "seconds": self.seconds,
            "losses": self.losses,
            "model": self.model.state_dict(),
            "average": self.ema.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_weights(self.weights, self.ema.average, header)  # type: ignore[arg-type]
        try:
            with whole_file(self.out / "state.pt") as file:
                torch.save(state, file)
        except OSError as error:
            raise InputError(
                f"cannot write {self.out / 'state.pt'}: {error.strerror}", "free some space"
            ) from error

    @property
    def weights(self) -> Path:
        """Where the averaged weights are written."""
        return self.out / f"{self.recipe.name}.safetensors"

    def _resume(self) -> None:
        path = self.out / "state.pt"
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location=self.world.device, weights_only=True)
            known = state["digest"]
        # A damaged file makes torch raise almost anything.
        except Exception as error:
            raise CheckpointError(
                f"{path} is damaged, so the run cannot go on", "remove it to begin again"
            ) from error
        if known != self.digest:
            raise RecipeError(
                self.recipe.name,
                [f"{path} was made with another {_difference(known, self.digest)}"],
                f"name another folder with --out, or remove {self.out} to begin again",
            )
        self.model.load_state_dict(state["model"])
        self.ema.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.iteration, self.seconds = state["iteration"], state["seconds"]
        self.losses = state["losses"]

    def _is_time(self, every: int) -> bool:
        return self.iteration % every == 0

    def _share(self) -> float:
        share = self.iteration / self.recipe.iterations
        if self.recipe.max_minutes:
            share = max(share, self.seconds / 60 / self.recipe.max_minutes)
        return min(share, 1.0)

    def _iterate(self, share: float) -> float:
        """Forward, backward, update; returns the loss of the whole batch before the update."""
        rate = learning_rate(self.recipe.optimizer, self.iteration, share, self.recipe.iterations)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        sizes = self.recipe.data.sizes()
        _, patch, size = next(row for row in reversed(sizes) if share >= row[0])
        loss = torch.stack(list(self._losses(self._batch(patch, size), size).values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        mean = self.world.average_gradients(self.parameters, loss.detach())
        norm = nn.utils.clip_grad_norm_(self.parameters, self.recipe.optimizer.clip)
        if not (math.isfinite(mean) and torch.isfinite(norm)):
            raise DiffIRError(
                f"the loss of {self.recipe.name} is no longer a number at iteration "
                f"{self.iteration}; the last saved state is kept",
                "go on more carefully: --set optimizer.lr=… or --set optimizer.clip=…",
            )
        self.optimizer.step()
        self.ema.update(self.model, self.iteration)
        self.iteration += 1
        return mean

    def _batch(self, patch: int, size: int) -> Batch:
        batch = self.crops.batch(self.iteration, patch, size)
        device = self.world.device
        return Batch(
            batch.lq.to(device, memory_format=torch.channels_last),
            batch.gt.to(device, memory_format=torch.channels_last),
        )

    def _losses(self, batch: Batch, size: int) -> dict[str, Tensor]:
        bf16 = self.recipe.precision is Precision.BF16
        if isinstance(self.model, DiffIRS1):
            return stage1_losses(self.model, batch, self.recipe.loss, bf16)
        assert self.teacher is not None
        mixed = np.random.SeedSequence([self.recipe.seed, self.iteration])
        seed = int(mixed.generate_state(1, np.uint64)[0] >> np.uint64(1))
        world = self.world
        return stage2_losses(
            self.model,
            self.teacher,
            batch,
            self.recipe.loss,
            Noise(seed, size, world.rank, world.size),
            with_image=self.iteration >= self.recipe.loss.ipr_only,
            bf16=bf16,
        )

    def _validate(self) -> float | None:
        if self.validation is None:
            return None
        return self.validation.psnr(self.ema.average, self.world.device)  # type: ignore[arg-type]

    def _record(self, progress: Progress, report: Callable[[Progress], None]) -> None:
        rate = self.optimizer.param_groups[0]["lr"]
        self.log.add(progress.iteration, self.seconds / 60, progress.loss, rate, progress.psnr)
        report(progress)


def _own_share(crops: Crops, world: World, iteration: int, patch: int, size: int) -> Batch:
    return crops.batch(iteration, patch, size, world.rank, world.size)


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
            for name, value in load_state(recipe.init).items()
            if name in own and own[name].shape == value.shape
        }
        if not taken:
            raise RecipeError(recipe.name, [f"no tensor of {recipe.init} fits the model"])
        model.load_state_dict(taken, strict=False)
        _log.warning("%d of %d tensors come from %s", len(taken), len(own), recipe.init)
    return model


def _trainable(model: nn.Module, recipe: Recipe) -> list[nn.Parameter]:
    if recipe.stage == 2 and recipe.loss.optimization is Optimization.TRADITIONAL:
        model.get_submodule("dirformer").requires_grad_(False)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _difference(known: dict[str, str], wanted: dict[str, str]) -> str:
    return " and ".join(name for name, value in wanted.items() if known.get(name) != value)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the folder {path}: {error.strerror}", "name another one with --out"
        ) from error


def _hash(path: str) -> str:
    """sha256 of a file, or nothing for no file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""
