"""The rule by which weights of the golden vectors are regenerated (tests/golden)."""

from __future__ import annotations

import json
import math
import zlib
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.conftest import GOLDEN

NAMES: tuple[str, ...] = ("sr_x4", "realsr_x2", "deblur", "inpaint_celeba", "inpaint_celeba_b2")
NAMES += ("s1_sr_x4", "s1_deblur", "s1_inpaint_celeba")


def description(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def arrays(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@lru_cache(maxsize=1)
def official_state(name: str) -> dict[str, Tensor]:
    """The state dict of the official network, twins and buffers included."""
    state = {}
    for entry in description(name)["state_dict"]:
        if entry["kind"] == "buffer":
            state[entry["key"]] = torch.tensor(entry["values"])
        else:
            state[entry["key"]] = fill(entry.get("same_as", entry["key"]), entry["shape"])
            total = float(state[entry["key"]].double().sum())
            assert math.isclose(total, entry["sum"], rel_tol=1e-9, abs_tol=1e-9)
    return state


def fill(key: str, shape: list[int]) -> Tensor:
    noise = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith(".temperature"):
        values = 4.0 * (1 + 0.1 * noise)
    elif key.endswith(".bias"):
        values = 0.05 * noise
    elif len(shape) == 1:
        values = 1 + 0.1 * noise
    else:
        values = noise * _gain(key) / math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def _gain(key: str) -> float:
    if key.endswith(".kernel.0.weight"):
        return 1.25
    if ".mlp." in key or ".resmlp." in key:
        return 1.5
    return 0.5 if key.endswith(".project_out.weight") else 1.0
