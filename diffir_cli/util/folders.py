"""Where this program keeps files of its own: never in the current folder or the package."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Downloaded weights: what can be had again."""
    return _folder("cache", platformdirs.user_cache_dir)


def config_folder() -> Path:
    """`diffir.toml` and pinned hashes: what a user has decided."""
    return _folder("config", platformdirs.user_config_dir)


SETTINGS_FILE = "diffir.toml"


def settings_files() -> list[Path]:
    """The files with a user's settings: in the config folder, and the one in the current folder."""
    places = (config_folder() / SETTINGS_FILE, Path(SETTINGS_FILE))
    # Unlike `Path.is_file`, this bears folders that may not be entered.
    return [path for path in places if os.path.isfile(path)]  # noqa: PTH113


def state_folder() -> Path:
    """Journals of runs whose results lie in object stores: what would be missed."""
    return _folder("state", platformdirs.user_state_dir)


_NAME = "diffir"


def _folder(name: str, usual: Callable[..., str]) -> Path:
    """Below `DIFFIR_HOME`, where the system says, or for a user without a home a temporary one."""
    try:
        return _below(name) or Path(usual(_NAME, appauthor=False))
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"{_NAME}-{os.getuid()}" / name


def _below(name: str) -> Path | None:
    """A folder below `DIFFIR_HOME`, where that is set."""
    home = os.environ.get("DIFFIR_HOME")
    if not home:
        return None
    folder = Path(home)
    # The home of a user that there is not stays as it is written.
    with suppress(RuntimeError):
        folder = folder.expanduser()
    return folder.absolute() / name
