"""Golden vectors of ResShift (tests/golden/resshift), and the rule that regenerates their weights.

`unet_*.npz` and `vq_*.npz` hold inputs and outputs of the official networks for synthetic weights,
in cases such as `sq` and `rect`; `keys_*.json` list the tensors of a network. A user with more of
these files names their folder in the environment variable RESSHIFT_GOLDEN.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffir_cli.models.resshift.config import MaskRule, ResShiftConfig
from diffir_cli.models.resshift.inferred_config import infer_config
from diffir_cli.models.resshift.networks.swin_layer import relative_position_index, shift_mask
from tests.conftest import GOLDEN

OWN = GOLDEN / "resshift"
FOLDER = Path(os.environ.get("RESSHIFT_GOLDEN", OWN))


def networks(prefix: str) -> list[str]:
    """Names of the files of one kind of network, `unet` or `vq`."""
    return sorted(path.stem for path in FOLDER.glob(f"{prefix}_*.npz"))


def keys(name: str) -> list[dict[str, Any]]:
    """The tensors of the network of a file; `unet_sr_x4_large` has those of `unet_sr_x4`."""
    lists = {path.stem.removeprefix("keys_"): path for path in OWN.glob("keys_*.json")}
    lists |= {path.stem.removeprefix("keys_"): path for path in FOLDER.glob("keys_*.json")}
    fitting = [key for key in lists if name.startswith(key) or key.startswith(name)]
    assert fitting, f"no list of tensors for {name}"
    return json.loads(lists[max(fitting, key=lambda key: (key == name, len(key)))].read_text())


@cache
def arrays(name: str) -> dict[str, Tensor]:
    path = FOLDER / f"{name}.npz"
    with np.load(path if path.is_file() else OWN / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def cases(name: str) -> dict[str, dict[str, Tensor]]:
    """The arrays of a file by case, without the case in their names."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in arrays(name).items():
        case, rest = key.split("/", 1)
        found.setdefault(case, {})[rest] = value
    return found


def official_state(name: str) -> dict[str, Tensor]:
    """The state dict of the official network, buffers included."""
    state = {}
    for entry in keys(name):
        key, shape = entry["key"], entry["shape"]
        if key.endswith(".attn_mask"):
            window = math.isqrt(shape[1])
            side = math.isqrt(shape[0]) * window
            state[key] = shift_mask(side, side, window, MaskRule.LEGACY)
        elif key.endswith(".relative_position_index"):
            state[key] = relative_position_index(math.isqrt(shape[0]))
        else:
            state[key] = fill(key, shape)
        total = entry["sum"] if entry["kind"] == "buffer" else entry["fill_sum"]
        assert math.isclose(float(state[key].double().sum()), total, rel_tol=1e-9, abs_tol=1e-6)
    return state


def fill(key: str, shape: list[int]) -> Tensor:
    values = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if len(shape) >= 2:
        values = values / math.sqrt(math.prod(shape[1:]))
    elif key.endswith(".weight"):
        values = 1 + 0.1 * values
    else:
        values = 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def config_of(name: str, state: dict[str, Tensor]) -> ResShiftConfig:
    """The configuration of a file's network as its names and shapes imply it."""
    if name.startswith("unet"):
        return infer_config(ResShiftConfig(), denoiser=state)
    return infer_config(ResShiftConfig(scale=1), autoencoder=state)


def lq_of(case: dict[str, Tensor], config: ResShiftConfig) -> Tensor:
    """What the denoiser reads beside x_t, given as it is or by its seed."""
    height, width = (side * config.lq_stride for side in case["x"].shape[2:])
    parts = [case["lq"] if "lq" in case else _uniform(case["lq_seed"], 3, height, width)]
    if "mask" in case:
        parts.append(case["mask"])
    elif "mask_seed" in case:
        rng = np.random.default_rng(int(case["mask_seed"]))
        unknown = torch.from_numpy(rng.uniform(size=(1, 1, height, width)) < 0.3)
        parts.append(2 * unknown.float() - 1)
    return torch.cat(parts, dim=1).expand(len(case["x"]), -1, -1, -1)


def _uniform(seed: Tensor, channels: int, height: int, width: int) -> Tensor:
    rng = np.random.default_rng(int(seed))
    values = rng.uniform(-1, 1, (1, channels, height, width))
    return torch.from_numpy(values.astype(np.float32))
