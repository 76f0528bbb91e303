"""The user's wish to a device and a number format."""

from __future__ import annotations

import re

import torch

from diffir_cli.config import Precision
from diffir_cli.errors import DeviceError


def choose_device(wish: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        DeviceError: when the wish is unknown, or this machine has no such device.
    """
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wish == "cpu":
        return torch.device("cpu")
    match = re.fullmatch(r"cuda(?::(\d+))?", wish)
    if not match:
        raise DeviceError(f"no device named {wish!r}", "use auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(match[1] or 0) >= count:
        raise DeviceError(
            f"{wish} was asked for, but torch {torch.__version__} finds {count} CUDA devices",
            "use --device cpu",
        )
    return torch.device(wish)


def choose_dtype(wish: Precision, device: torch.device) -> torch.dtype:
    """The number format of the DIRformer: fp32 on a CPU and bf16 on CUDA unless asked otherwise.

    Raises:
        DeviceError: when the device has no bf16.
    """
    wish = Precision(wish)
    if wish is Precision.FP32 or (wish is Precision.AUTO and device.type == "cpu"):
        return torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        if wish is Precision.AUTO:
            return torch.float32
        raise DeviceError(f"{device} has no bf16", "use --precision fp32")
    return torch.bfloat16


def precision_name(dtype: torch.dtype) -> str:
    """How users call a number format."""
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]
