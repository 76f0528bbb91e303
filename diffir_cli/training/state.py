"""The saved state of a run: written whole, read with care, and by which recipe it is continued."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from diffir_cli.errors import CheckpointError, DeviceError, DiffIRError, InputError, RecipeError
from diffir_cli.training.recipe import Recipe, digest
from diffir_cli.util.files import file_errors, file_sha256, whole_file
from diffir_cli.util.out_of_memory import is_out_of_memory


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Keep a state, whole or not at all.

    Raises:
        InputError: when it cannot be written.
    """
    with file_errors(f"cannot write {path}", "free some space"), whole_file(path) as file:
        try:
            torch.save(dict(state), file)
        except RuntimeError as error:
            # Torch's own error on the way out of its writer hides that of the file system.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


_log = logging.getLogger(__name__)
_BEGIN_AGAIN = "name another folder with --output to begin again"


@contextmanager
def whole_state(path: Path) -> Iterator[dict[str, Any]]:
    """What a run saved, on the CPU, for those who take it apart.

    Raises:
        CheckpointError: when the file is damaged, or a part of it is missing or of another form.
        InputError: when it cannot be read.
        DeviceError: when it does not fit into memory.
    """
    try:
        yield torch.load(path, map_location="cpu", weights_only=True)
    except DiffIRError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    # A damaged file makes torch raise almost anything, and one of an earlier version misses parts.
    except Exception as error:
        if is_out_of_memory(error):
            raise DeviceError(f"{path} does not fit into memory") from error
        raise CheckpointError(
            f"{path} is damaged or from another version: cannot resume", _BEGIN_AGAIN
        ) from error


def set_aside(weights: Path, state: Path) -> None:
    """Give another name to weights that have no state, since a new run would replace them.

    Raises:
        InputError: when the file cannot be renamed.
    """
    if weights.exists() and not state.exists():
        names = (f".before{number or ''}.safetensors" for number in itertools.count())
        kept = next(path for name in names if not (path := weights.with_suffix(name)).exists())
        _log.warning("%s has no state to continue from: it is kept as %s", weights, kept)
        with file_errors(f"cannot rename {weights}", "name another folder with --output"):
            weights.replace(kept)


def has_learnt(path: Path) -> bool:
    """Whether there is a state of more than a beginning, which holds nothing to go on from.

    Raises:
        DiffIRError: as `whole_state` does.
    """
    if not path.exists():
        return False
    with whole_state(path) as state:
        return bool(state["iteration"])


def refuse_other_run(
    name: str, path: Path, known: dict[str, str], wanted: dict[str, str], finished: bool
) -> None:
    """Only the recipe and files that a state was made with go on from it.

    Args:
        name: Of the recipe.
        path: The state.
        known: What it was made with.
        wanted: What the recipe is.
        finished: Whether nothing is left to learn, so that another learning rate has no effect.

    Raises:
        RecipeError: when they are others.
    """
    # States of earlier versions do not say all of it.
    whole = finished and "optimizer" in known
    passed_over = "optimizer.kind" if whole else "optimizer"
    wanted = {part: value for part, value in wanted.items() if part != passed_over}
    if changed := difference(known, wanted):
        raise RecipeError(
            name,
            [f"{path} was made with a different {changed}"],
            f"name another folder with --output, or remove {path.parent} to start over",
        )


def difference(known: dict[str, str], wanted: dict[str, str]) -> str:
    """In which parts two identities differ.

    A field that is absent from what is known was added by a later version: it had its default.
    """
    usual = digest(Recipe())
    return " and ".join(
        name
        for name, value in wanted.items()
        if known.get(name, usual.get(name, "")) != value
        and not _grown(known.get(name), value, usual.get(name, ""))
    )


def _grown(known: str | None, wanted: str, usual: str) -> bool:
    """Whether two tables differ only by new fields at their defaults."""
    if not all(text and text.startswith("{") for text in (known, wanted, usual)):
        return False
    before, after, default = (json.loads(text or "{}") for text in (known, wanted, usual))
    return after == {**{name: default.get(name) for name in after}, **before}


def identity(recipe: Recipe) -> dict[str, str]:
    """What a state must share with a recipe and its files to be continued by them."""
    paths = {name: getattr(recipe, name) for name in ("init", "start", "autoencoder")}
    paths["distill.weights"] = recipe.distill.weights
    hashes = {name: file_sha256(Path(path)) if path else "" for name, path in paths.items()}
    return {**digest(recipe), **hashes}
