"""Where this program keeps files of its own: never in the current folder or the package."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Downloaded weights: what can be had again."""
    return _below("cache") or Path(platformdirs.user_cache_dir(_NAME, appauthor=False))


def config_folder() -> Path:
    """Settings and pinned hashes: what a user has decided."""
    return _below("config") or Path(platformdirs.user_config_dir(_NAME, appauthor=False))


def state_folder() -> Path:
    """Journals of runs whose results lie in object stores: what would be missed."""
    return _below("state") or Path(platformdirs.user_state_dir(_NAME, appauthor=False))


_NAME = "diffir"


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
