"""The requested device and a number format."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from diffir_cli.errors import DeviceError
from diffir_cli.options import DEVICE_NAMES, Precision

_DTYPES = {
    Precision.FP32: torch.float32,
    Precision.TF32: torch.float32,
    Precision.BF16: torch.bfloat16,
    Precision.FP16: torch.float16,
}


def choose_device(requested: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:N`, `xpu`, `xpu:N` or `mps`.

    Raises:
        DeviceError: when the name is unknown, or this machine has no such device.
    """
    # As `--gpu-id 0` of other tools.
    if requested.isascii() and requested.isdigit():
        requested = f"cuda:{requested}"
    if requested == "auto":
        found = (kind for kind in ("cuda", "xpu", "mps") if _count(kind))
        return torch.device(next(found, "cpu"))
    if requested == "cpu":
        return torch.device("cpu")
    match = re.fullmatch(r"(cuda|xpu|mps)(?::(\d{1,4}))?", requested)
    if not match:
        raise DeviceError(f"no device named {requested!r:.40}", f"use {DEVICE_NAMES}")
    count = _count(match[1])
    if int(match[2] or 0) >= count:
        raise DeviceError(
            f"{requested} is not available: torch {torch.__version__} finds "
            f"{count} {match[1].upper()} devices",
            "use --device cpu",
        )
    return torch.device(requested)


def _count(kind: str) -> int:
    """How many devices of a kind this machine has."""
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module = torch.cuda if kind == "cuda" else torch.xpu
    return module.device_count() if module.is_available() else 0


def choose_precision(requested: Precision, device: torch.device, deep: bool = False) -> Precision:
    """The number format of the DIRformer, unless asked: bf16 where the device multiplies in it.

    On a CPU that is so for pictures of 8 bits only: finer ones would show what bf16 rounds.

    Args:
        requested: What was asked for; `auto` leaves the choice to the device.
        device: Where the network runs.
        deep: Whether the picture has more than 8 bits a channel.

    Raises:
        DeviceError: when the device has no such format, or would be slow and wrong in it.
    """
    requested = Precision(requested)
    has_bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported()
    if requested is Precision.AUTO:
        on_cpu = device.type == "cpu" and not deep and cpu_multiplies_bf16()
        on_cuda = device.type == "cuda" and has_bf16
        return Precision.BF16 if on_cpu or on_cuda else Precision.FP32
    if requested is Precision.TF32 and device.type != "cuda":
        raise DeviceError(f"tf32 needs CUDA, not {device}", "use --precision fp32")
    if requested is Precision.FP16 and device.type == "cpu":
        raise DeviceError("fp16 is slow on a CPU and overflows", "use --precision bf16 or fp32")
    if requested is Precision.BF16 and not has_bf16:
        raise DeviceError(f"{device} does not support bf16", "use --precision fp16 or fp32")
    return requested


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has units for products of bf16, and its libraries may use them."""
    limits = (os.environ.get(name, "") for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"))
    chosen = next(filter(None, limits), "ALL").upper()
    if not torch.backends.mkldnn.is_available():
        return False
    if platform.machine().lower() in ("aarch64", "arm64"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    # On x86 that question is answered with yes where bf16 is emulated, too.
    if not any(word in chosen for word in ("ALL", "DEFAULT", "BF16", "AMX")):
        return False
    # Private, and not in every version of torch.
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in questions)


def dtype_of(precision: Precision) -> torch.dtype:
    """The format of the feature maps; tf32 is fp32 that is rounded inside products."""
    return _DTYPES[precision]


@contextmanager
def tf32(wanted: bool) -> Iterator[None]:
    """Whether CUDA may round the factors of fp32 products to 11 bits inside the block.

    cuDNN does so by default, which is no more the result of a CPU.
    """
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    try:
        convolutions.allow_tf32 = products.allow_tf32 = wanted
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before
