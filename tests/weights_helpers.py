"""What is said of a weights file that is refused, and what that costs."""

from __future__ import annotations

from pathlib import Path

from diffir_cli.errors import CheckpointError
from diffir_cli.models.diffir.checkpoint import load_model
from tests.processes import growth_of


def refused_with(path: Path) -> tuple[str, int]:
    """What is said of a file, and how much memory it takes to say it, in bytes."""
    caught: list[str] = []

    def load() -> None:
        try:
            load_model(path)
        except CheckpointError as error:
            caught.append(error.message)

    taken = growth_of(load)
    return caught[0], taken
