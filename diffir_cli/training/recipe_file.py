"""Recipes from TOML, with every fault of a file reported at once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from diffir_cli.errors import RecipeError, WeightsError
from diffir_cli.models.families import DEFAULT_FAMILY, FAMILIES, config_type
from diffir_cli.training.recipe import (
    AdversarialRecipe,
    DataRecipe,
    DistillRecipe,
    LossRecipe,
    OptimizerRecipe,
    PerceptualRecipe,
    Recipe,
    ValidationRecipe,
)
from diffir_cli.training.recipe_faults import forgotten_schedule, recipe_faults
from diffir_cli.util.tables import parse_table
from diffir_cli.weights.locate import locate_weights
from diffir_cli.weights.registry import read_registry

_TABLES = {
    "data": DataRecipe,
    "optimizer": OptimizerRecipe,
    "loss": LossRecipe,
    "adversarial": AdversarialRecipe,
    "perceptual": PerceptualRecipe,
    "distill": DistillRecipe,
    "validation": ValidationRecipe,
}


_COMPONENTS = {"init": "model", "start": "denoiser", "autoencoder": "autoencoder"}
"""Fields that name weights, and which file of a network of several files they mean."""
_RENAMED = {
    "spike": "loss_spike_ratio",
    "returns": "max_rollbacks",
    "adversarial.falls": "adversarial.follow_lr_schedule",
}
"""Fields that had another name, which recipes of earlier versions use."""


def load_recipe(path: Path, settings: Iterable[str] = ()) -> Recipe:
    """The recipe in a TOML file.

    Args:
        path: The file.
        settings: Changes such as `optimizer.lr=1e-3` or `data.train=["photos"]`; a value that is no
            TOML is taken as text.

    Raises:
        RecipeError: when the file cannot be read, or with every fault in it.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            str(path), [f"cannot read it: {error.strerror}"], "check the name of the recipe"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(str(path), [f"it is not valid TOML: {error}"]) from error
    faults = [fault for setting in settings if (fault := _apply(values, setting))]
    return parse_recipe(values, str(path), faults)


def parse_recipe(values: Mapping[str, Any], source: str, faults: Iterable[str] = ()) -> Recipe:
    """The recipe in a table.

    Args:
        values: The table.
        source: What an error calls it.
        faults: Faults that are known already.

    Raises:
        RecipeError: with every fault.
    """
    found = list(faults)
    values = _with_new_names(values)
    parsed: dict[str, Any] = {}
    family = values.get("family", DEFAULT_FAMILY)
    known = family if family in FAMILIES else DEFAULT_FAMILY
    for name, kind in {"model": config_type(known), **_TABLES}.items():
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
        found += forgotten_schedule(table) if kind is OptimizerRecipe else []
    top, more = parse_table(
        Recipe, {k: v for k, v in values.items() if k not in ("model", *_TABLES)}
    )
    found += more
    for name in _COMPONENTS:
        try:
            top[name] = _weights_file(top.get(name, ""), _COMPONENTS[name])
        except WeightsError as error:
            found.append(f"{name} cannot be used: {error}; {error.hint}")
    if distill := parsed.get("distill"):
        try:
            parsed["distill"] = DistillRecipe(_weights_file(distill.weights))
        except WeightsError as error:
            found.append(f"distill.weights cannot be used: {error}; {error.hint}")
    # What did parse is judged too, beside the defaults of what did not.
    recipe = Recipe(**top, **parsed)
    spoilt = {fault.split(" ", 1)[0] for fault in found}
    found += [fault for fault in recipe_faults(recipe) if fault.split(" ", 1)[0] not in spoilt]
    if found:
        raise RecipeError(source, found)
    return recipe


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


def _weights_file(name_or_path: str, component: str = "model") -> str:
    """Where weights lie that the registry knows by this name; any other text as it is.

    Args:
        name_or_path: What the recipe says.
        component: Which file of a network that consists of several.

    Raises:
        WeightsError: when they are not on this machine, or not what they should be.
    """
    if (
        not name_or_path
        or Path(name_or_path).is_file()
        or (spec := read_registry().get(name_or_path)) is None
    ):
        return name_or_path
    found = locate_weights(name_or_path, spec.task, teachers=True)
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
    except tomllib.TOMLDecodeError:
        values[last] = text
    return ""
