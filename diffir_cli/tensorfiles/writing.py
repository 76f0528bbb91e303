"""Named tensors to a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from diffir_cli.errors import CheckpointError
from diffir_cli.util.files import file_errors, write_atomically


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str], half: bool = False
) -> None:
    """Write tensors as safetensors in fp32; an existing file is replaced atomically.

    Args:
        path: The file.
        tensors: By name.
        header: Entries of the file's header.
        half: Store fp16 instead of fp32.

    Raises:
        CheckpointError: when the file cannot be written, or a number is not finite or too large for
            fp16.
    """
    dtype = torch.float16 if half else torch.float32
    stored = {name: value.detach().cpu().to(dtype).contiguous() for name, value in tensors.items()}
    for name, value in stored.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"{name!r} has numbers that cannot be stored",
                "store fp32" if half else "train again from an earlier state",
            )
    hint = "check its folder and the free space"
    with file_errors(f"cannot write {path}", hint, CheckpointError):
        write_atomically(path, save(stored, dict(header)))
