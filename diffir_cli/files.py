"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """A file to write, which gets its name only when the block ends without an error.

    It lies in the same folder meanwhile, so that the last step is a rename inside one file system,
    and is on the disk before it gets its name.

    Args:
        path: The name it will have.
        overwrite: Whether a file of that name may be replaced.

    Raises:
        FileExistsError: when it may not be replaced and there is one by then.
        OSError: when it cannot be written.
    """
    # Its length does not depend on that of the name, which may be as long as the system allows.
    temporary = path.with_name(f".diffir-{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            temporary.replace(path)
        else:
            _move_new(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file, or replace it, whole or not at all."""
    with whole_file(path) as file:
        file.write(data)


def _move_new(temporary: Path, path: Path) -> None:
    """Give the file its name unless another has taken it meanwhile."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:
        # File systems without hard links: a rename is the next best.
        if path.exists():
            raise FileExistsError(path) from None
        temporary.replace(path)
