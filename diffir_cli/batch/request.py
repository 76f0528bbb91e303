"""What a user wants of a run, and the folders that the run holds meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from diffir_cli.batch.cluster import Cluster
from diffir_cli.batch.find import fixed_part
from diffir_cli.batch.journal import Journal, push_journal
from diffir_cli.batch.lock import locked
from diffir_cli.batch.naming import Naming
from diffir_cli.batch.stores import home_of, is_remote, parse_place, real_path
from diffir_cli.batch.work import Work
from diffir_cli.options import OnExist
from diffir_cli.util.files import new_folder

_MOST_LOCKS = 64
"""Folders that a run in place holds."""


@dataclass(frozen=True)
class Request:
    """What a user wants of a run."""

    inputs: tuple[str, ...]
    """Files, folders and patterns."""
    folder: Path | None
    """Where results go; None for the place of each source."""
    naming: Naming
    """How results are called and written."""
    work: Work
    """What is done with each picture."""
    recursive: bool = False
    """Whether folders are searched to the bottom."""
    masks: Path | None = None
    """A mask for all, or a folder of them."""
    on_exist: OnExist = OnExist.ERROR
    """What becomes of files that are in the way."""
    shard: tuple[int, int] = (1, 1)
    """Which part of the pictures is done here, and of how many."""
    devices: tuple[str, ...] = ()
    """One process for each; empty for none but this."""
    helpers: int = 2
    """Threads for reading, and as many for writing."""
    fail_fast: bool = False
    """Whether the first failure ends the run."""
    cluster: Cluster | None = None
    """A Ray cluster that does the work; None for this machine."""

    @property
    def place(self) -> Path:
        """The folder of results, or that of the sources."""
        return self.folder if self.folder is not None else fixed_part(parse_place(self.inputs[0]))

    @property
    def locked_places(self) -> list[Path]:
        """The folder of results, or those of the sources, each once and in one order.

        Of very many, the first: each lock is an open file, of which a system grants few.
        """
        if self.folder is not None:
            return [self.folder]
        places: dict[str, Path] = {}
        for text in self.inputs:
            place = fixed_part(parse_place(text))
            places.setdefault(str(real_path(place)), place)
        return [places[name] for name in sorted([*places][:_MOST_LOCKS])]

    @property
    def home(self) -> Path:
        """Where journal and lock lie: in that folder, or on this machine for an object store."""
        return home_of(self.place)

    @property
    def shard_name(self) -> str:
        """For files of a shard; empty for an undivided run."""
        number, count = self.shard
        return f"{number}-of-{count}" if count > 1 else ""


@contextmanager
def results_locked(request: Request) -> Iterator[None]:
    """Hold the folder of results, or all folders whose files are replaced, while the block runs.

    The folder of results is made if it is not there.

    Raises:
        InputError: when it cannot be made or written into, or another run holds it.
    """
    with ExitStack() as stack:
        for place in request.locked_places:
            home = home_of(place)
            stack.enter_context(new_folder(home))
            stack.enter_context(locked(home, request.shard_name, place))
        # A store that takes nothing is found out before anything is computed.
        if is_remote(request.place):
            push_journal(request.place, Journal(request.home, request.shard_name).path)
        yield
