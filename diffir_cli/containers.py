"""Weights files to named tensors, whatever wraps them, without running any pickle.

A pickle may name any function and have it called, so a weights file from the net is a program. Here
torch's restricted unpickler reads the file; what it refuses (Lightning files name callback and
configuration classes) goes through one in which every name but torch's tensor builders stands for
an object that does nothing.
"""

from __future__ import annotations

import collections
import pickle
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffir_cli.errors import CheckpointError


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file under their own names, and the header of a safetensors file.

    Raises:
        CheckpointError: when the file cannot be read, is damaged, or holds no tensors.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    # A safetensors file starts with the length of its JSON header, 8 bytes, and then the header.
    if start[8:9] == b"{":
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return tensors, dict(file.metadata() or {})
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{path} is no readable safetensors file: {error}") from error
    return _select(path, _unpickle(path)), {}


def _unpickle(path: Path) -> Any:
    """The content of a file that torch wrote, with nothing executed."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        pass  # It names classes that torch does not know: they become stand-ins.
    except Exception as error:
        raise _unreadable(path, error) from error
    inert = types.SimpleNamespace(Unpickler=_InertUnpickler, load=_load_inert, __name__="inert")
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=inert)
    # A malformed file makes an unpickler raise almost anything.
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return CheckpointError(
        f"{path} is no weights file, or a damaged one: {reason}",
        "compare its size with that of the original",
    )


class _StandIn:
    """An object in the place of one that a pickle wants to build: it takes all, does nothing."""

    def __new__(cls, *_args: object, **_kwargs: object) -> _StandIn:
        return object.__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass

    def __setitem__(self, _key: object, _value: object) -> None:
        pass

    def append(self, _value: object) -> None:
        """Take an item and forget it."""

    def extend(self, _values: object) -> None:
        """Take items and forget them."""

    def add(self, _value: object) -> None:
        """Take an item and forget it."""


_BUILDERS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
}
"""The only callables that a pickle gets by name."""


class _InertUnpickler(pickle.Unpickler):
    """An unpickler for which every unknown name is a class of stand-ins."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        builder = _BUILDERS.get((module_name, global_name))
        return builder or type("StandIn", (_StandIn,), {})


def _load_inert(file: IO[bytes], **settings: Any) -> Any:
    return _InertUnpickler(file, **settings).load()


def _select(path: Path, content: Any) -> dict[str, Tensor]:
    """The dict of tensors inside one of the official containers."""
    if isinstance(content, Mapping):
        for level in ("params_ema", "params"):
            if isinstance(content.get(level), Mapping):
                content = content[level]
                break
        else:
            if isinstance(content.get("state_dict"), Mapping):
                prefix = "generator."
                state = content["state_dict"]
                content = {
                    key.removeprefix(prefix): value
                    for key, value in state.items()
                    if isinstance(key, str) and key.startswith(prefix)
                } or state
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors under a name this tool knows")
    return tensors
