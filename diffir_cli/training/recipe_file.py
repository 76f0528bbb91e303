"""Recipes from TOML, with every fault of a file reported at once."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from diffir_cli.errors import RecipeError, WeightsError
from diffir_cli.models.families import DEFAULT_FAMILY, FAMILIES, config_type
from diffir_cli.training.recipe import DistillRecipe, Recipe
from diffir_cli.training.recipe_faults import forgotten_schedule, recipe_faults
from diffir_cli.util.tables import parse_table
from diffir_cli.weights.locate import locate_weights
from diffir_cli.weights.registry import read_registry

_TABLES = {
    name: kind
    for name, kind in get_type_hints(Recipe).items()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind)
}
_COMPONENTS = {"init": "model", "start": "denoiser", "autoencoder": "autoencoder"}
"""Fields that name weights, and which file of a network of several files they mean."""
_RENAMED = {
    "spike": "loss_spike_ratio",
    "returns": "max_rollbacks",
    "adversarial.falls": "adversarial.follow_lr_schedule",
}
"""Fields that had another name, which recipes of earlier versions use."""


def load_recipe(path: Path, settings: Iterable[str] = (), registry: Path | None = None) -> Recipe:
    """The recipe in a TOML file.

    Args:
        path: The file.
        settings: Changes such as `optimizer.lr=1e-3` or `data.train=["photos"]`; a value that is no
            TOML is taken as text.
        registry: The user's own registry of weights; None for that of the environment.

    Raises:
        RecipeError: when the file cannot be read, or with every fault in it.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            str(path), [f"cannot read it: {error.strerror}"], "check the name of the recipe"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecipeError(str(path), [f"it is not valid TOML: {error}"]) from error
    faults = [fault for setting in settings if (fault := _apply(values, setting))]
    return parse_recipe(values, str(path), faults, registry)


def parse_recipe(
    values: Mapping[str, Any], source: str, faults: Iterable[str] = (), registry: Path | None = None
) -> Recipe:
    """The recipe in a table.

    Args:
        values: The table.
        source: What an error calls it.
        faults: Faults that are known already.
        registry: The user's own registry of weights; None for that of the environment.

    Raises:
        RecipeError: with every fault, one for each field.
    """
    found = list(faults)
    values = _with_new_names(values)
    family = values.get("family", DEFAULT_FAMILY)
    kinds: dict[str, type] = {
        **_TABLES,
        "model": config_type(family if family in FAMILIES else DEFAULT_FAMILY),
    }
    parsed, more = parse_table(Recipe, {k: v for k, v in values.items() if k not in kinds})
    found += more
    for name, kind in kinds.items():
        table = values.get(name, {})
        if not isinstance(table, Mapping):
            found.append(f"{name} must be a table, not {table!r}")
            continue
        arguments, inner = parse_table(kind, table)
        try:
            parsed[name] = kind(**arguments)
        except ValueError as error:
            inner.append(str(error))
        found += [f"{name}.{fault}" for fault in inner]
    for name, component in _COMPONENTS.items():
        try:
            parsed[name] = _weights_file(parsed.get(name, ""), registry, component)
        except WeightsError as error:
            found.append(f"{name} cannot be used: {error}; {error.hint}")
    if distill := parsed.get("distill"):
        try:
            parsed["distill"] = DistillRecipe(_weights_file(distill.weights, registry))
        except WeightsError as error:
            found.append(f"distill.weights cannot be used: {error}; {error.hint}")
    # What did parse is judged too, beside the defaults of what did not.
    recipe = Recipe(**parsed)
    unread = {_field_of(fault) for fault in found}
    judged = [*recipe_faults(recipe)]
    if "optimizer" not in unread:
        judged += forgotten_schedule(values.get("optimizer", {}))
    found += [fault for fault in judged if not unread & _mentioned(fault)]
    if found := list({_field_of(fault): fault for fault in reversed(found)}.values())[::-1]:
        raise RecipeError(source, found)
    return recipe


def _field_of(fault: str) -> str:
    """The field that a fault is about; of what is no field all of it."""
    return fault.split(" ", 1)[0].rstrip(",") if not fault.startswith("cannot set") else fault


def _mentioned(fault: str) -> set[str]:
    """The fields that a fault names, of which the first has its table before it."""
    first = _field_of(fault)
    table = first.rpartition(".")[0]
    words = re.findall(r"[\w.]+", fault)
    return {first, *(word for word in words if "." in word), *(f"{table}.{word}" for word in words)}


def _with_new_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe whose fields have the names of this version."""
    found = {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()
    }
    for old, new in _RENAMED.items():
        table, _, field = old.rpartition(".")
        inner = found.get(table, {}) if table else found
        if isinstance(inner, dict) and field in inner:
            inner.setdefault(new.rpartition(".")[2], inner.pop(field))
    return found


def _weights_file(name_or_path: str, registry: Path | None, component: str = "model") -> str:
    """Where weights lie that the registry knows by this name; any other text as it is.

    Args:
        name_or_path: What the recipe says.
        registry: The user's own registry; None for that of the environment.
        component: Which file of a network that consists of several.

    Raises:
        WeightsError: when they are not on this machine, or not what they should be.
    """
    if (
        not name_or_path
        or Path(name_or_path).is_file()
        or (spec := read_registry(registry).get(name_or_path)) is None
    ):
        return name_or_path
    found = locate_weights(name_or_path, spec.task, registry, teachers=True)
    return str(found.files.get(component, found.path))


def _apply(values: dict[str, Any], setting: str) -> str:
    """Put `table.field=value` into a table; what is wrong with it, or nothing."""
    name, equals, text = setting.partition("=")
    *tables, last = name.strip().split(".")
    if not equals or not last:
        return f"cannot set {setting!r}; write table.field=value"
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            return f"cannot set {setting!r}; {table} is no table"
    try:
        values[last] = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        values[last] = text
    return ""
