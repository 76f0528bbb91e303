"""What a user has decided about weights: the hashes first seen, and the licences agreed to.

Both are files of TOML in the config folder, which a person can read and mend.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from diffir_cli.errors import WeightsError
from diffir_cli.files import write_atomically
from diffir_cli.folders import config_folder

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


def pin(name: str, sha256: str, kind: str = PUBLISHED) -> None:
    """Remember a hash.

    Raises:
        WeightsError: when it cannot be written.
    """
    _note(pins_file(), name, kind, sha256)


def has_accepted(name: str) -> bool:
    """Whether the user has agreed to the licence of some weights.

    Raises:
        WeightsError: when the file that says so cannot be read.
    """
    return "license" in _read(_licences_file()).get(name, {})


def accept_license(name: str, license_: str) -> None:
    """Remember that the user agreed.

    Raises:
        WeightsError: when it cannot be written.
    """
    _note(_licences_file(), name, "license", license_)


def _licences_file() -> Path:
    return config_folder() / "accepted.toml"


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise WeightsError(
            f"cannot read {path}: {error.strerror}", "look at its permissions"
        ) from error
    except ValueError as error:
        raise WeightsError(f"{path} is damaged: {error}", "mend or remove it") from error


def _note(path: Path, name: str, key: str, value: str) -> None:
    with _held(path):
        entries = _read(path)
        entries.setdefault(name, {})[key] = value
        entries[name]["since"] = time.strftime("%Y-%m-%d")
        lines = []
        for title, fields in sorted(entries.items()):
            lines.append(f'["{title}"]')
            lines += [f'{field} = "{_escaped(text)}"' for field, text in fields.items()]
            lines.append("")
        write_atomically(path, "\n".join(lines).encode())


def _escaped(text: str) -> str:
    return "".join(
        f"\\u{ord(letter):04x}" if letter in '"\\' or not letter.isprintable() else letter
        for letter in text
    )


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a file against other processes while it is read and written again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            yield
    except OSError as error:
        raise WeightsError(
            f"cannot write {path}: {error.strerror or error}",
            "set DIFFIR_HOME to a folder that can be written",
        ) from error
