"""Results as what programs read, and what a reader must know to judge them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from diffir_cli.benchmark.growth import Growth
from diffir_cli.benchmark.machine import Machine
from diffir_cli.benchmark.run import Result, Settings
from diffir_cli.benchmark.tables import Table
from diffir_cli.benchmark.timing import NOISY, Timing
from diffir_cli.evaluation.report import markdown_table
from diffir_cli.version import __version__


def remarks(machine: Machine, results: Sequence[Result]) -> list[str]:
    """What casts doubt on figures, or explains them."""
    lines = []
    ran = [result for result in results if result.timing]
    if machine.busy and ran:
        lines.append(
            f"warning: the machine was busy, with a load of {machine.load:.2f} on "
            f"{machine.cores} cores before the first measurement"
        )
    for result in ran:
        assert result.timing is not None
        if result.timing.spread > NOISY:
            lines.append(
                f"warning: {describe(result)} spread by {100 * result.timing.spread:.0f} %: "
                "the machine was busy, or too few repeats"
            )
    for result in results:
        lines += [f"note: {describe(result)}: {note}" for note in result.notes]
        if result.error:
            lines.append(f"error: {describe(result)}: {result.error}")
    names = [result.case.subject.name for result in ran if result.case.subject.path is None]
    if names:
        lines.append(
            f"note: random weights for {', '.join(dict.fromkeys(names))}, "
            "which are not at hand: the cost is the same"
        )
    first = next((result for result in results if result.ratio), None)
    if first:
        lines.append("note: a ratio is the time relative to the first variant, run alternately")
    return lines


def as_dict(
    machine: Machine, settings: Settings, results: Sequence[Result], growths: Sequence[Growth] = ()
) -> dict[str, Any]:
    """Everything as values that JSON can hold (docs/benchmark.md)."""
    return {
        "diffir": __version__,
        "machine": {**asdict(machine), "busy": machine.busy},
        "settings": {"device": settings.device, "repeats": settings.repeats},
        "results": [_result(result) for result in results],
        "growth": [_growth(growth) for growth in growths],
        "remarks": remarks(machine, results),
    }


def _result(result: Result) -> dict[str, Any]:
    case, cost = result.case, result.cost
    scale = case.subject.config.scale
    # A count is the same in whichever way a network is run.
    ran = result.timing is not None or bool(result.error)
    cold_start = result.in_subprocess.cold_start if result.in_subprocess else None
    return {
        "weights": case.subject.name,
        "config": case.subject.digest,
        "sha256": case.subject.sha256,
        "random_weights": case.subject.path is None,
        "width": case.width,
        "height": case.height,
        "padded": [cost.width, cost.height],
        "engine": case.variant.engine.value if ran else None,
        "precision": case.variant.precision.value if ran else None,
        "device": case.device if ran else None,
        "parameters": {"total": cost.total_parameters, **cost.parameters},
        "mult_adds": {
            "exact": cost.exact,
            "paper": cost.paper,
            **{network: cost.network(network).mult_adds for network in cost.parameters},
        },
        "parts": [
            {
                **asdict(place),
                **asdict(count),
                "seconds": result.parts[0].get(place) if result.parts else None,
            }
            for place, count in cost.parts.items()
        ],
        "seconds": _seconds(result.timing) if result.timing else None,
        "lq_pixels_per_second": result.pixel_rate or None,
        "hq_pixels_per_second": result.pixel_rate * scale**2 or None,
        "flops_per_second": result.flops or None,
        "peak_flops_per_second": result.peak or None,
        "share_of_peak": result.share or None,
        "ratio": asdict(result.ratio) if result.ratio else None,
        "cold_start_seconds": cold_start,
        "memory": asdict(result.in_subprocess.memory) if result.in_subprocess else None,
        "tile": result.tile,
        "notes": list(result.notes),
        "error": result.error,
        # Their names in earlier versions, for one release.
        "roof_flops_per_second": result.peak or None,
        "share_of_roof": result.share or None,
        "cold_seconds": cold_start,
    }


def _seconds(timing: Timing) -> dict[str, Any]:
    return {
        "p50": timing.p50,
        "p90": timing.percentile(90),
        "p99": timing.p99,
        "min": timing.best,
        "spread": timing.spread,
        "all": list(timing.seconds),
    }


def _growth(growth: Growth) -> dict[str, Any]:
    return {
        "weights": growth.subject.name,
        "engine": growth.variant.engine.value,
        "precision": growth.variant.precision.value,
        "exponent": growth.exponent,
        "sizes": [list(size) for size in growth.sizes],
        "left_out": [list(size) for size in growth.left_out],
    }


def as_csv(found: Mapping[str, Any]) -> str:
    """What `as_dict` gives of each result, a line each, with full precision.

    Tables inside a result become columns with a point in their names; parts and single calls are
    left to JSON.
    """
    rows = [_flat(result) for result in found["results"]]
    columns = dict.fromkeys(column for row in rows for column in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(result: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in result.items():
        if isinstance(value, Mapping):
            row |= {f"{name}.{key}": each for key, each in value.items() if key != "all"}
        elif name == "padded":
            row |= {"padded_width": value[0], "padded_height": value[1]}
        elif name == "notes":
            row[name] = "; ".join(value)
        elif name != "parts":
            row[name] = value
    return row


def as_markdown(head: Sequence[str], tables: Sequence[Table], tail: Sequence[str]) -> str:
    """A page with the machine above and remarks below."""
    lines = [line for text in head for line in (text, "")]
    for table in tables:
        lines += [f"## {table.title}", "", *markdown_table(table.header, table.rows, table.words)]
        lines.append("")
    lines += [f"- {line}" for line in tail]
    return "\n".join(lines).rstrip("\n") + "\n"


def describe(result: Result) -> str:
    """Which case it is, for people."""
    case = result.case
    return f"{case.subject.name} {case.width}×{case.height} {case.variant}"
