"""What a user has decided about weights: the hashes first seen, and the licences agreed to.

Both are files of TOML in the config folder, one table for each name, which a person can read.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping
from pathlib import Path

from diffir_cli.errors import WeightsError
from diffir_cli.util.files import file_errors, write_atomically
from diffir_cli.util.folders import config_folder
from diffir_cli.util.lock import locked_file

PUBLISHED, IMPORTED = "published", "imported"
"""The file as its authors published it, and what was made of it here."""


def pins_file() -> Path:
    """Where the hashes stand."""
    return config_folder() / "pins.toml"


def pinned(name: str, kind: str = PUBLISHED) -> str | None:
    """The sha256 that a file of some weights had when it was first seen.

    Raises:
        WeightsError: when the file of hashes cannot be read.
    """
    return _read(pins_file()).get(name, {}).get(kind)


def pin(name: str, **hashes: str) -> None:
    """Remember hashes, by their kinds, all of them at once.

    Raises:
        WeightsError: when they cannot be written.
    """
    _note(pins_file(), name, hashes)


def has_accepted(name: str, license_: str) -> bool:
    """Whether the user has agreed to this very licence of some weights.

    Raises:
        WeightsError: when the file that says so cannot be read.
    """
    return _read(_licences_file()).get(name, {}).get("license") == license_


def accept_license(name: str, license_: str) -> None:
    """Remember that the user agreed.

    Raises:
        WeightsError: when it cannot be written.
    """
    _note(_licences_file(), name, {"license": license_})


def _licences_file() -> Path:
    return config_folder() / "accepted.toml"


def _read(path: Path) -> dict[str, dict[str, str]]:
    with file_errors(f"cannot read {path}", "check its permissions", WeightsError):
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
            return {
                name: {key: str(text) for key, text in table.items()}
                for name, table in tables.items()
            }
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, RecursionError) as error:
            raise WeightsError(f"{path} is damaged: {error}", "fix or remove it") from error


def _note(path: Path, name: str, values: Mapping[str, str]) -> None:
    hint = "set DIFFIR_HOME to a folder that can be written"
    refused = file_errors(f"cannot write {path}", hint, WeightsError)
    with refused, locked_file(path.with_suffix(".lock")):
        entries = _read(path)
        entries.setdefault(name, {}).update(values)
        entries[name]["since"] = time.strftime("%Y-%m-%d")
        lines = []
        for title, fields in sorted(entries.items()):
            lines.append(f'["{_escaped(title)}"]')
            lines += [f'"{_escaped(field)}" = "{_escaped(text)}"' for field, text in fields.items()]
            lines.append("")
        write_atomically(path, "\n".join(lines).encode())


def _escaped(text: str) -> str:
    return "".join(
        f"\\U{ord(letter):08x}" if letter in '"\\' or not letter.isprintable() else letter
        for letter in text
    )
