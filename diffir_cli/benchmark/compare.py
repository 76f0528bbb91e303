"""Results beside older ones: what became slower, larger or dearer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffir_cli.benchmark.case import Case
from diffir_cli.benchmark.tables import DASH, Table, giga
from diffir_cli.errors import InputError
from diffir_cli.util.json_files import read_json

_WHICH = ("weights", "config", "sha256", "width", "height")
"""What makes the Mult-Adds of two results comparable."""

_SETTINGS = ("engine", "precision", "device")
"""What makes their times comparable too; null where nothing was run."""

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
    """In seconds, bytes or ones, as the old one."""
    tolerance: float
    """By which share of the old figure the new one may exceed it."""

    @property
    def ratio(self) -> float | None:
        """New over old; None over nothing."""
        return self.new / self.old if self.old else None

    @property
    def worse(self) -> bool:
        """Whether it exceeds the old one by more than the tolerance, and memory by what matters."""
        slight = self.unit == "bytes" and self.new - self.old < _SLIGHT
        return self.new > self.old * (1 + self.tolerance) and not slight


@dataclass(frozen=True)
class Comparison:
    """What two runs have in common."""

    changes: list[Change]
    missing: list[str]
    """Cases of the old run that the new one has not."""
    added: list[str]
    """Cases of the new run that the old one has not."""
    uncompared: list[str]
    """Figures that only one of the two runs has."""
    unlike: list[str]
    """In what the machines differ."""
    tolerance: float
    """By which share of an old figure a new one may exceed it."""

    @property
    def worse(self) -> list[Change]:
        """Figures beyond the tolerance."""
        return [change for change in self.changes if change.worse]

    def to_dict(self) -> dict[str, Any]:
        """As values that JSON can hold."""
        changes = [
            {**asdict(each), "ratio": each.ratio, "worse": each.worse} for each in self.changes
        ]
        return {**asdict(self), "changes": changes}

    def table(self) -> Table:
        """Side by side."""
        rows = [
            [
                *(change.case, change.figure),
                *(_shown(figure, change.unit) for figure in (change.old, change.new)),
                DASH if change.ratio is None else f"{change.ratio:.2f}",
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
            f"{path} is not JSON of diffir benchmark", "make one: diffir benchmark --json > FILE"
        )
    needed = (*_WHICH, *_SETTINGS)
    if not all(isinstance(each, dict) and set(needed) <= set(each) for each in results):
        raise InputError(
            f"{path} has results that lack one of {', '.join(needed)}", "make it again"
        )
    for result in results:
        _check_figures(path, result)
    return found


def _check_figures(path: Path, result: Mapping[str, Any]) -> None:
    """Refuse figures that no run has, since nothing would be worse than they."""
    for figure, _, names in _FIGURES:
        value = _value(result, names)
        if value is None:
            continue
        # A truth is a number to Python.
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0 <= value < _HUGE):
            raise InputError(
                f"{path} has a {figure} of {_described(_key(result))} that is no figure: "
                f"{value!r:.40}",
                "make it again",
            )


_HUGE = 1e30
"""Beyond any time, memory or count; not less than it are neither infinity nor what is no number."""


def check_common(old: Mapping[str, Any], cases: Iterable[Case], cost_only: bool = False) -> None:
    """Refuse to compare what has nothing in common, before anything is measured for it.

    Args:
        old: What `read_results` gave.
        cases: What is going to be measured.
        cost_only: Whether it is only counted, in whichever way it would be run.

    Raises:
        InputError: when none of them was measured then.
    """
    then = [_key(result) for result in old["results"]]
    now = [_key_of(case, cost_only) for case in cases]
    if any(_match(one, other) for one in then for other in now):
        return
    measured = list(dict.fromkeys(map(_described, then)))
    unlike = ", of other networks or weights" if set(measured) & set(map(_described, now)) else ""
    raise InputError(
        "the two runs have no case in common",
        f"the old one measured {', '.join(measured) or 'nothing'}{unlike}",
    )


def compare(old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float) -> Comparison:
    """Median time, memory and Mult-Adds of the cases that both runs have.

    Args:
        old: What `report.as_dict` gave then.
        new: What it gives now.
        tolerance: By which share of an old figure a new one may exceed it.
    """
    pairs = [
        (before, now)
        for before in old["results"]
        for now in new["results"]
        if _match(_key(before), _key(now))
    ]
    changes: dict[tuple[str, str], Change] = {}
    uncompared = []
    for before, now in pairs:
        # What was only counted on one side has no times to miss.
        timed = _key(before)[len(_WHICH) :] == _key(now)[len(_WHICH) :]
        case = _described(_key(now))
        for figure, unit, names in _FIGURES:
            old_value, new_value = _value(before, names), _value(now, names)
            if old_value is not None and new_value is not None:
                values = float(old_value), float(new_value)
                changes[case, figure] = Change(case, figure, unit, *values, tolerance)
            elif timed and (old_value is not None or new_value is not None):
                which = "then" if new_value is None else "now"
                uncompared.append(f"{figure} of {case}, which only the run {which} has")
    machines = old["machine"], new["machine"]
    return Comparison(
        list(changes.values()),
        _unmatched(old["results"], [before for before, _ in pairs]),
        _unmatched(new["results"], [now for _, now in pairs]),
        uncompared,
        _unlike(*machines) if any(change.figure != _COUNT for change in changes.values()) else [],
        tolerance,
    )


def _unmatched(results: Iterable[Mapping[str, Any]], matched: list[Mapping[str, Any]]) -> list[str]:
    keys = {_key(result) for result in matched}
    return [_described(_key(result)) for result in results if _key(result) not in keys]


def _unlike(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {old.get(name)} then, {new.get(name)} now"
        for name in _ALIKE
        if old.get(name) != new.get(name)
    ]


_COUNT = "Mult-Adds"

_FIGURES: tuple[tuple[str, str, tuple[str, str]], ...] = (
    ("p50", "s", ("seconds", "p50")),
    ("RSS growth", "bytes", ("memory", "resident")),
    ("GPU allocated", "bytes", ("memory", "allocated")),
    ("GPU reserved", "bytes", ("memory", "reserved")),
    (_COUNT, "Mult-Adds", ("mult_adds", "exact")),
)
"""Names, units, and where they lie in a result."""


def _value(result: Mapping[str, Any], names: tuple[str, str]) -> Any:
    """A figure of a result; None where it has none."""
    table = result.get(names[0])
    return table.get(names[1]) if isinstance(table, Mapping) else None


_Key = tuple[str | None, ...]


def _key(result: Mapping[str, Any]) -> _Key:
    return tuple(
        None if result[name] is None else str(result[name]) for name in (*_WHICH, *_SETTINGS)
    )


def _key_of(case: Case, cost_only: bool) -> _Key:
    """What `_key` gives of the result of a case."""
    subject, variant = case.subject, case.variant
    which = (subject.name, subject.digest, subject.sha256, case.width, case.height)
    settings = variant.engine.value, variant.precision.value, case.device
    values = (*which, *((None,) * 3 if cost_only else settings))
    return _key(dict(zip((*_WHICH, *_SETTINGS), values, strict=True)))


def _match(one: _Key, other: _Key) -> bool:
    """Whether two results have anything that can be compared."""
    which = len(_WHICH)
    settings = one[which:], other[which:]
    counted = (None,) * len(_SETTINGS) in settings
    return one[:which] == other[:which] and (settings[0] == settings[1] or counted)


def _described(key: _Key) -> str:
    weights, _, _, width, height, *settings = key
    return " ".join([f"{weights} {width}×{height}", *(word for word in settings if word)])


def _shown(value: float, unit: str) -> str:
    if unit == "s":
        return f"{1000 * value:.1f} ms"
    return f"{value / _MEBI:.0f} MiB" if unit == "bytes" else f"{giga(value)} G"
