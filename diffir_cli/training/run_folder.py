"""One training for a folder at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from diffir_cli.errors import InputError
from diffir_cli.util.files import file_errors, new_folder
from diffir_cli.util.lock import locked_file


@contextmanager
def run_folder(out: Path) -> Iterator[None]:
    """Make the folder of a run, and keep other runs from it while the block runs.

    Of several processes that train together the first one does so. A block that fails before it
    has written anything leaves no new folder.

    Raises:
        InputError: when another training runs there, or the folder takes no files.
    """
    several = os.environ.get("WORLD_SIZE", "1") != "1"
    if several and os.environ.get("RANK", "0") != "0":
        yield
        return

    def refuse() -> None:
        raise InputError(
            f"another training runs in {out}", "wait for it, or name another folder with --output"
        )

    path = out / ".diffir-lock"
    with new_folder(out), ExitStack() as stack:
        with file_errors(f"cannot write into {out}", "name another folder"):
            stack.enter_context(locked_file(path, refuse))
        try:
            yield
        finally:
            # Before the lock is given back, lest another run's is removed.
            with suppress(OSError):
                path.unlink()
