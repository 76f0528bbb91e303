"""`diffir.toml`: options that a user always wants, in the config folder or the current one."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from diffir_cli.errors import UsageError
from diffir_cli.options import DEVICE_NAME, DEVICE_NAMES, Engine, Precision, Task
from diffir_cli.util.byte_sizes import parse_bytes
from diffir_cli.util.files import file_errors
from diffir_cli.util.folders import settings_files
from diffir_cli.util.tables import Table, plain


@dataclass(frozen=True)
class FileSettings(Table):
    """What may stand in a file: the values of options that suit a machine or a user."""

    device: str = "auto"
    engine: Engine = Engine.STREAMING
    jobs: int = 1
    max_memory: str = ""
    max_pixels: int = 1
    precision: Precision = Precision.AUTO
    task: Task = Task.REALSR
    threads: int = 1

    def __post_init__(self) -> None:
        if not all(DEVICE_NAME.fullmatch(name) for name in self.device.split(",")):
            raise ValueError(f"device must be {DEVICE_NAMES}")
        if self.max_memory:
            try:
                parse_bytes(self.max_memory)
            except ValueError:
                raise ValueError("max-memory must be a size such as 4G or 800M") from None
        for name, most in (("jobs", 64), ("max_pixels", None), ("threads", 1024)):
            number = getattr(self, name)
            if number < 1 or (most and number > most):
                limits = f"from 1 to {most}" if most else "of at least 1"
                raise ValueError(f"{name.replace('_', '-')} must be a whole number {limits}")


_ONLY = {"task": ("restore", "batch")}
"""Options that mean the same in these commands alone."""


def file_settings(command: str) -> dict[str, Any]:
    """The values of parameters for a command, by name; those of the current folder go first.

    Raises:
        UsageError: when a file cannot be read, is no TOML, or has a setting that there is not.
    """
    found: dict[str, Any] = {}
    for path in settings_files():
        found |= _settings_of(path)
    return {key: value for key, value in found.items() if command in _ONLY.get(key, (command,))}


def _settings_of(path: Path) -> dict[str, Any]:
    with file_errors(f"cannot read {path}", "check its permissions", UsageError):
        text = path.read_bytes()
    try:
        values = tomllib.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is not a TOML file: {error}", "write lines such as device = 'cpu'"
        ) from error
    given, values = values, {name.replace("-", "_"): value for name, value in values.items()}
    if len(values) < len(given):
        raise UsageError(f"{path} has a setting twice, with - and _", "remove one of them")
    try:
        read = FileSettings.from_dict(values)
    except ValueError as error:
        fault = str(error).replace("is no field", "is no setting")
        names = [field.name for field in fields(FileSettings)]
        for name in names:
            fault = fault.replace(name, name.replace("_", "-"))
        known = ", ".join(names).replace("_", "-")
        raise UsageError(f"{path}: {fault}", f"settings are {known}") from error
    return {name: plain(getattr(read, name)) for name in values}
