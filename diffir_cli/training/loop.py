"""The loop around the losses: optimiser, average, state, log; it knows no loss itself.

A run is its folder: `state.pt` (replaced atomically), `log.csv`, `curves.png` and the averaged
weights as `<name>.safetensors`. The same recipe and folder continue where the state was saved. On a
CPU, without a time limit, the result is the same to the bit as that of a run never interrupted.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from diffir_cli.errors import DiffIRError, RecipeError
from diffir_cli.runtime.device import choose_device
from diffir_cli.training.data import Crops, Prefetched
from diffir_cli.training.ema import EMA
from diffir_cli.training.families import build_trainable
from diffir_cli.training.guard import Guard, Rollbacks, sizes
from diffir_cli.training.log import TrainingLog
from diffir_cli.training.optimizer import build_optimizer
from diffir_cli.training.pace import Pace
from diffir_cli.training.parallel import World
from diffir_cli.training.recipe import Recipe
from diffir_cli.training.schedule import learning_rate
from diffir_cli.training.state import (
    has_learnt,
    identity,
    refuse_other_run,
    set_aside,
    whole_state,
    write_state,
)
from diffir_cli.training.trainable import Batch, Noise
from diffir_cli.training.validate import Validation
from diffir_cli.util.files import make_folder
from diffir_cli.util.out_of_memory import oom_errors
from diffir_cli.util.signals import handled

_log = logging.getLogger(__name__)

_SMALLER_BATCH = "give a smaller data.batch, data.patch or progressive_batch, or use more processes"
_MORE_MEMORY = (
    "the same command goes on with more processes or on another device; smaller batches need "
    "another --output and begin anew, from these weights if the recipe names them"
)


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
    pixels_per_second: float
    """LQ pixels of crops a second since the last report."""
    flops_per_second: float
    """FLOPs of forward and backward passes a second since then: those of convolutions and matrix
    products, three times the forward pass."""
    psnr: float | None = None
    """Validation PSNR in dB, when it was just measured."""


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    weights: Path
    """The averaged weights."""
    iterations: int
    """Iterations done in all that the weights hold."""
    minutes: float
    """Time spent in all."""
    finished: bool
    """False when a signal stopped it before its end."""


class Trainer:
    """One training run.

    Args:
        recipe: What to train.
        out: The folder of the run; made if absent.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `xpu`, `xpu:N` or `mps`.

    Raises:
        RecipeError: when the folder holds a run of another recipe, the processes cannot share a
            batch evenly, or nothing of a file that the recipe names fits.
        InputError: when a photo cannot be read, or the folder not be made.
        CheckpointError: when a file that the recipe names does not fit, or the saved state is
            damaged.
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
        self.trainable = build_trainable(recipe, self.world)
        make_folder(out)
        self.model = self.trainable.network
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parameters = [one for one in self.model.parameters() if one.requires_grad]
        self.ema = EMA(self.model, recipe.ema)
        self.optimizer = build_optimizer(self.model, self.trainable.parts, recipe.optimizer)
        self.guard = Guard(recipe.loss_spike_ratio)
        self.iteration, self.seconds, self.kept = 0, 0.0, -1
        self.rollbacks = Rollbacks()
        self.losses: list[float] = []
        self.pace = Pace()
        self.digest = identity(recipe)
        if has_learnt(self._state):
            self._resume()
        prior = self.trainable.prior
        crops = Crops.of(recipe, prior, self.trainable.prepare)
        self.crops = Prefetched(partial(crops.batch, rank=self.world.rank, world=self.world.size))
        self.validation = Validation.of(recipe, prior) if self.world.is_first else None
        self.log = TrainingLog(out, self.iteration, self.world.is_first)
        if self.world.is_first:
            set_aside(self.weights, self._state)

    def fit(self, report: Callable[[Progress], None] = lambda _progress: None) -> Result:
        """Train to the end of the schedule, or until SIGINT or SIGTERM.

        Args:
            report: Called behind every iteration that is logged or validated.

        Raises:
            DiffIRError: when the loss collapses again and again; the last good state is kept.
            DeviceError: when a batch does not fit into memory.
        """
        with ExitStack() as stack:
            # A rollback begins another log.
            stack.callback(lambda: self.log.close())
            stack.callback(self.crops.close)
            finished = self._train(report)
        self.world.leave()
        return Result(self.weights, self.kept, self.seconds / 60, finished)

    def _train(self, report: Callable[[Progress], None]) -> bool:
        """Iterate to the end of the schedule or a signal; whether it was the end."""
        stopped: list[int] = []
        with handled(lambda number, _frame: stopped.append(number), once=True):
            started = time.monotonic() - self.seconds
            self.pace.start(self.iteration)
            while True:
                self.seconds = time.monotonic() - started
                share, stop = self.world.largest(self.share(), float(bool(stopped)))
                finished = share >= 1
                validate = finished or self._is_time(self.recipe.validation.every)
                if self.losses and (validate or self._is_time(self.recipe.log_every)):
                    self._report(share, validate, report)
                if stop or finished or self._is_time(self.recipe.save_every):
                    self._keep(finished, stopped=bool(stop))
                if stop or finished:
                    return finished
                terms = self._iterate(share)
                if self.guard.has_collapsed(self._judged(terms, share)):
                    self._return(sum(terms.values()))
                    self.pace.start(self.iteration)
                else:
                    self.losses.append(sum(terms.values()))
                    self.rollbacks.decay(self.iteration)

    def _report(self, share: float, validate: bool, report: Callable[[Progress], None]) -> None:
        """Log where the run stands, and begin to count anew."""
        rates = self.pace.rates(self.iteration)
        psnr = self._validate() if validate else None
        loss = sum(self.losses) / len(self.losses)
        rate = self.optimizer.param_groups[0]["lr"]
        self.log.add(self.iteration, self.seconds / 60, loss, rate, psnr)
        report(Progress(self.iteration, share, loss, *rates, psnr))
        self.losses = []
        self.pace.start(self.iteration)

    def _keep(self, finished: bool, stopped: bool) -> None:
        """Save the state if it may be kept as a good one, or is the last."""
        there = self.weights.exists() and self._state.exists()
        calm = self.guard.is_calm
        if not there or (self.iteration != self.kept and (calm or finished)):
            self.save()
        if (stopped or finished) and not calm:
            self._report_rise(finished)

    def save(self) -> None:
        """Write the averaged weights, then the state; each is there whole or not at all."""
        self.kept = self.iteration
        if not self.world.is_first:
            return
        header = {
            "name": self.recipe.name,
            "iterations": str(self.iteration),
            "minutes": f"{self.seconds / 60:.1f}",
        }
        state = {
            "digest": self.digest,
            "config": json.dumps(self.recipe.model.to_dict()),
            "iteration": self.iteration,
            "seconds": self.seconds,
            "losses": self.losses,
            "model": self.model.state_dict(),
            "average": self.ema.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "critics": self.trainable.state_dict(),
            "guard": self.guard.state(),
            "returned": [self.rollbacks.count, self.rollbacks.at],
        }
        self.trainable.save(self.weights, self.ema.average, header)
        write_state(self._state, state)

    @property
    def weights(self) -> Path:
        """Where the averaged weights are written."""
        return self.out / f"{self.recipe.name}.safetensors"

    @property
    def _state(self) -> Path:
        return self.out / "state.pt"

    def _resume(self) -> None:
        with whole_state(self._state) as state:
            self.iteration, self.seconds = state["iteration"], state["seconds"]
            finished = self.share() >= 1
            refuse_other_run(self.recipe.name, self._state, state["digest"], self.digest, finished)
            self.model.load_state_dict(state["model"])
            self.ema.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.trainable.load_state_dict(state["critics"])
            self.guard.restore(state["guard"])
            self.losses, self.rollbacks = state["losses"], Rollbacks(*state["returned"])
        self.kept = self.iteration

    def _return(self, loss: float) -> None:
        """Go back to the last good state, from which to go on with half the learning rate."""
        collapsed, returned = self.iteration, self.rollbacks.count + 1
        if returned > self.recipe.max_rollbacks:
            raise DiffIRError(
                f"the loss of {self.recipe.name} collapsed again (rollback {returned}) at "
                f"iteration {collapsed}; the last good state is kept",
                "resume with smaller steps: --set optimizer.lr=… or --set optimizer.clip=…",
            )
        self._resume()
        self.rollbacks = Rollbacks(returned, collapsed)
        text = (
            f"iteration {collapsed}: the loss collapsed ({loss:.4g}); back to iteration "
            f"{self.iteration}, learning rate × {self.rollbacks.lr_factor:g} for now"
        )
        _log.warning("%s", text)
        self.log = TrainingLog(self.out, self.iteration, self.world.is_first)
        self.log.note(text)

    def _report_rise(self, finished: bool) -> None:
        """Say that the run is left while its loss rises, which may be a collapse."""
        kept = "these weights may be poor" if finished else f"iteration {self.kept} is kept"
        text = f"iteration {self.iteration}: the loss was rising when the run ended; {kept}"
        _log.warning("%s", text)
        self.log.note(text)

    def _is_time(self, every: int) -> bool:
        return self.iteration % every == 0

    def share(self) -> float:
        """How much of the schedule is done, of its iterations or of its time, in [0, 1]."""
        share = self.iteration / self.recipe.iterations
        if self.recipe.max_minutes:
            share = max(share, self.seconds / 60 / self.recipe.max_minutes)
        return min(share, 1.0)

    def _iterate(self, share: float) -> dict[str, float]:
        """Forward, backward, update; returns the whole batch's loss terms before the update.

        A loss or gradient that is no number updates nothing, and is returned as it is.
        """
        rates = self.recipe.optimizer, self.iteration, share, self.recipe.iterations
        patch, size = self._crops(share)
        with oom_errors(
            f"a batch of {size} crops of {patch}×{patch} pixels does not fit into memory",
            _MORE_MEMORY if self.kept > 0 else _SMALLER_BATCH,
        ):
            return self._learn(self._batch(patch, size), size, learning_rate(*rates))

    def _crops(self, share: float) -> tuple[int, int]:
        """Side of a crop in LQ pixels and crops an iteration at a share of the schedule."""
        rows = reversed(self.recipe.data.sizes())
        return next((patch, size) for begin, patch, size in rows if share >= begin)

    def _judged(self, terms: dict[str, float], share: float) -> dict[str, float]:
        """The terms of a loss as the guard sees them: crops of another size have other errors."""
        patch, size = self._crops(share)
        judged = sizes(terms, self.recipe.loss.pixel)
        return {f"{name} of {size} crops of {patch}": value for name, value in judged.items()}

    def _learn(self, batch: Batch, size: int, rate: float) -> dict[str, float]:
        """Take one step down the gradient of this process's share of `size` crops."""
        optimizer = self.recipe.optimizer
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.rollbacks.lr_factor
        self.optimizer.zero_grad(set_to_none=True)
        pixels = size * batch.lq.shape[2] * batch.lq.shape[3]
        with self.pace.counted(pixels):
            losses = self.trainable.losses(batch, self._noise(size), self.iteration)
        terms = torch.stack(list(losses.values()))
        terms.sum().backward()
        policy = self.world.average_gradients(self.parameters, terms.detach())
        norm = nn.utils.clip_grad_norm_(self.parameters, optimizer.clip)
        if not (all(map(math.isfinite, policy)) and torch.isfinite(norm)):
            return dict.fromkeys(losses, math.nan)
        self.optimizer.step()
        shares = rate / optimizer.lr, self.rollbacks.lr_factor
        opposing = self.trainable.after_update(batch, *shares)
        if not math.isfinite(opposing):
            return dict.fromkeys(losses, math.nan)
        self.ema.update(self.model, self.iteration)
        self.iteration += 1
        self.pace.pixels += pixels
        return dict(zip(losses, policy, strict=True))

    def _batch(self, patch: int, size: int) -> Batch:
        return self.crops.batch(self.iteration, patch, size).to(self.world.device)

    def _noise(self, size: int) -> Noise:
        mixed = np.random.SeedSequence([self.recipe.seed, self.iteration])
        seed = int(mixed.generate_state(1, np.uint64)[0] >> np.uint64(1))
        return Noise(seed, size, self.world.rank, self.world.size)

    def _validate(self) -> float | None:
        if self.validation is None:
            return None
        model = self.trainable.restoration_model(self.ema.average)
        return self.validation.psnr(model, self.world.device)
