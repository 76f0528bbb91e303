"""Results beside older ones: what became slower, larger or dearer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffir_cli.benchmark.case import Case
from diffir_cli.benchmark.tables import DASH, Table, giga
from diffir_cli.errors import InputError

_KEY = ("weights", "width", "height", "engine", "precision", "device")
"""What makes two results comparable."""

_ALIKE = ("cpu", "cores", "threads", "torch", "gpu", "driver")
"""What of two machines must be the same for their times to be comparable."""

_MEBI = 2**20

_SLIGHT = 16 * _MEBI
"""Bytes by which the same run differs from itself: allocators take memory in pieces."""


@dataclass(frozen=True)
class Change:
    """One figure of a case, then and now."""

    case: str
    figure: str
    unit: str
    old: float
    new: float
    tolerance: float
    """By which share of the old figure the new one may exceed it."""

    @property
    def ratio(self) -> float:
        """New over old."""
        return self.new / self.old

    @property
    def worse(self) -> bool:
        """Whether it exceeds the old one by more than the tolerance, and memory by what matters."""
        slight = self.unit == "MiB" and self.new - self.old < _SLIGHT
        return self.ratio > 1 + self.tolerance and not slight


@dataclass(frozen=True)
class Comparison:
    """What two runs have in common."""

    changes: list[Change]
    missing: list[str]
    """Cases of the old run that the new one has not."""
    unlike: list[str]
    """In what the machines differ."""

    @property
    def worse(self) -> list[Change]:
        """Figures beyond the tolerance."""
        return [change for change in self.changes if change.worse]

    def to_dict(self) -> dict[str, Any]:
        """As values that JSON can hold."""
        changes = [
            {
                **{name: getattr(each, name) for name in ("case", "figure", "old", "new")},
                "ratio": each.ratio,
                "worse": each.worse,
            }
            for each in self.changes
        ]
        return {"changes": changes, "missing": self.missing, "unlike": self.unlike}

    def table(self) -> Table:
        """Side by side."""
        rows = [
            [
                *(change.case, change.figure, _shown(change.old, change.unit)),
                *(_shown(change.new, change.unit), f"{change.ratio:.2f}"),
                "worse" if change.worse else DASH,
            ]
            for change in self.changes
        ]
        header = ["case", "figure", "old", "new", "new / old", "beyond tolerance"]
        return Table("Compared", header, rows, 2)


def read_results(path: Path) -> dict[str, Any]:
    """What `diffir benchmark --json` printed.

    Raises:
        InputError: when the file cannot be read, or holds something else.
    """
    found = read_json(path)
    results = found.get("results")
    if not isinstance(found.get("machine"), dict) or not isinstance(results, list):
        raise InputError(
            f"{path} is no result of diffir benchmark", "make one: diffir benchmark --json > FILE"
        )
    if not all(isinstance(each, dict) and set(_KEY) <= set(each) for each in results):
        raise InputError(f"{path} has results that lack {', '.join(_KEY)}", "make it again")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of JSON.

    Raises:
        InputError: when the file cannot be read, or holds no such object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "check the name") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}", "name a file that --json made") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no JSON object", "name a file that --json made")
    return found


def check_common(old: Mapping[str, Any], cases: Iterable[Case]) -> None:
    """Refuse to compare what has nothing in common, before anything is measured for it.

    Args:
        old: What `read_results` gave.
        cases: What is going to be measured.

    Raises:
        InputError: when none of them was measured then.
    """
    then = [_key(result) for result in old["results"]]
    now = {_key({**case.to_dict(), "weights": case.subject.name}) for case in cases}
    if not now.intersection(then):
        raise InputError(
            "the two runs have no case in common",
            f"the old one measured {', '.join(map(_said, then)) or 'nothing'}",
        )


def compare(old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float) -> Comparison:
    """Median time, memory and Mult-Adds of the cases that both runs have.

    Args:
        old: What `report.as_dict` gave then.
        new: What it gives now.
        tolerance: By which share of an old figure a new one may exceed it.
    """
    before = {_key(result): result for result in old["results"]}
    now = {_key(result): result for result in new["results"]}
    common = [key for key in before if key in now]
    changes = [
        Change(_said(key), figure, unit, old_value, new_value, tolerance)
        for key in common
        for figure, unit, names in _FIGURES
        if (old_value := _value(before[key], names)) and (new_value := _value(now[key], names))
    ]
    return Comparison(
        changes,
        [_said(key) for key in before if key not in now],
        [
            f"{name}: {old['machine'].get(name)} then, {new['machine'].get(name)} now"
            for name in _ALIKE
            if old["machine"].get(name) != new["machine"].get(name)
        ],
    )


_FIGURES: tuple[tuple[str, str, tuple[str, str]], ...] = (
    ("p50", "ms", ("seconds", "p50")),
    ("RSS growth", "MiB", ("memory", "resident")),
    ("GPU allocated", "MiB", ("memory", "allocated")),
    ("Mult-Adds", "G", ("mult_adds", "exact")),
)
"""Names, units, and where they lie in a result."""


def _value(result: Mapping[str, Any], names: tuple[str, str]) -> float | None:
    """A figure of a result; None where it has none, or something else stands there."""
    table = result.get(names[0])
    value = table.get(names[1]) if isinstance(table, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def _key(result: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(result[name]) for name in _KEY)


def _said(key: tuple[str, ...]) -> str:
    weights, width, height, engine, precision, device = key
    return f"{weights} {width}×{height} {engine} {precision} {device}"


def _shown(value: float, unit: str) -> str:
    if unit == "ms":
        return f"{1000 * value:.1f} ms"
    return f"{value / _MEBI:.0f} MiB" if unit == "MiB" else f"{giga(value)} G"
