"""Tiny training runs, for the tests of training."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from diffir_cli.training.loop import Progress, Trainer
from diffir_cli.training.recipe import Recipe
from diffir_cli.training.recipe_file import parse_recipe
from diffir_cli.training.trainable import Batch
from tests.conftest import TINY


def make_recipe(photos: Path, **changes: Any) -> Recipe:
    table: dict[str, Any] = {
        "name": "tiny",
        "iterations": 12,
        "log_every": 4,
        "save_every": 1000,
        "model": TINY.to_dict(),
        "data": {"train": [str(photos)], "patch": 8, "batch": 4},
        "optimizer": {"lr": 2e-3},
        "validation": {"gt": str(photos), "every": 6, "count": 1},
    }
    if "family" in changes:
        table["model"] = {}
    for name, value in changes.items():
        table[name] = {**table.get(name, {}), **value} if isinstance(value, dict) else value
    return parse_recipe(table, "a test")


def progressive(at: list[float], patch: list[int], batch: list[int]) -> dict[str, Any]:
    """What a recipe says of crops that grow at shares of its schedule."""
    return {"progressive_at": at, "progressive_patch": patch, "progressive_batch": batch}


def run_training(recipe: Recipe, out: Path, stop_at: int | None = None) -> Path:
    def interrupt(progress: Progress) -> None:
        if progress.iteration == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    result = Trainer(recipe, out, "cpu").fit(interrupt)
    assert result.finished is (stop_at is None)
    return result.weights


def check_resuming(recipe: Recipe, folder: Path, stop_at: int = 4) -> Path:
    """Train in `whole`, and with a stop in `parts`, to the same bits; the weights of `whole`."""
    whole = run_training(recipe, folder / "whole")
    run_training(recipe, folder / "parts", stop_at=stop_at)
    parts = run_training(recipe, folder / "parts")
    for read in (load_file, _model_of):
        first, second = read(whole), read(parts)
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert torch.equal(value, second[name]), name
    return whole


def _model_of(weights: Path) -> dict[str, Tensor]:
    return torch.load(weights.with_name("state.pt"), weights_only=True)["model"]


def log_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def to_toml(table: dict[str, Any]) -> str:
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in table.items())


def random_batch() -> Batch:
    return Batch(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32))
