"""Tables of TOML or JSON as the fields of a dataclass, and back."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, Self, get_args, get_origin, get_type_hints


class Table:
    """A frozen dataclass that can be a table of TOML or JSON; a base of configurations."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that TOML and JSON can hold."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: plain(getattr(self, field.name)) for field in fields}

    def changed(self, *names: str) -> list[str]:
        """Which of some fields are not at their defaults; all fields have some."""
        usual = type(self)()
        return [name for name in names if getattr(self, name) != getattr(usual, name)]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A configuration from a TOML or JSON table; fields left out keep their defaults.

        Raises:
            ValueError: when it is no table, or a field is unknown or has a value that it cannot
                have.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"it must be a table, not {values!r}")
        parsed, faults = parse_table(cls, values)
        if faults:
            raise ValueError("; ".join(faults))
        return cls(**parsed)


def parse_table(
    kind: type, values: Mapping[str, Any], without: Collection[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Arguments for a dataclass from a TOML or JSON table, and what is wrong with the table.

    Args:
        kind: The dataclass. Its enumerations are given by value, its tuples as lists.
        values: The table.
        without: Fields that a table may not have.

    Returns:
        What could be read, and a sentence for each other field that begins with its name.
    """
    hints = _hints_of(kind)
    fields = [name for name in hints if name not in without]
    parsed, faults = {}, []
    for name, value in values.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            faults.append(f"{name} is no field" + (f", did you mean {near[0]!r}?" if near else ""))
            continue
        try:
            parsed[name] = _parse(value, hints[name])
        except ValueError as error:
            faults.append(f"{name} {error}")
    return parsed, faults


@functools.cache
def _hints_of(kind: Any) -> dict[str, Any]:
    """The types of a dataclass's fields by name, in their order; slow to find out."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def plain(value: Any) -> Any:
    """A field's value as something that TOML and JSON can hold."""
    if isinstance(value, Table):
        return value.to_dict()
    if isinstance(value, StrEnum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _parse(value: Any, kind: Any) -> Any:
    """`value` as the type of a field, or ValueError."""
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(
                f"must be a list such as {json.dumps([value], default=str)}, not {value!r}"
            )
        return tuple(_parse(item, get_args(kind)[0]) for item in value)
    if issubclass(kind, StrEnum):
        if value not in list(kind):
            raise ValueError(f"must be one of {', '.join(kind)}, not {value!r}")
        return kind(value)
    if kind is float and type(value) in (int, float):
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"must be {_IN_WORDS[kind]}, not {value!r}")
    return value


_IN_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
