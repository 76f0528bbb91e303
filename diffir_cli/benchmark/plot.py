"""Pictures of a run: latency against size, and cost against quality."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

from diffir_cli.benchmark.case import Variant
from diffir_cli.benchmark.quality import SIDE, Quality
from diffir_cli.benchmark.run import Result
from diffir_cli.benchmark.subject import Subject
from diffir_cli.errors import MissingLibraryError

_WIDTH, _HEIGHT = 6.0, 4.5
"""Inches of a panel."""


def check_plotting() -> None:
    """Refuse to draw before anything is measured for it.

    Raises:
        MissingLibraryError: when matplotlib is not installed.
    """
    _figure_class()


def draw_plot(results: Sequence[Result], qualities: Sequence[Quality] = ()) -> bytes:
    """The panels of `panels_of` as a PNG.

    Raises:
        MissingLibraryError: when matplotlib is not installed.
    """
    buffer = io.BytesIO()
    panels_of(results, qualities).savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def panels_of(results: Sequence[Result], qualities: Sequence[Quality] = ()) -> Any:
    """A figure with a panel of latency where something was timed, and of each kind of scores.

    Args:
        results: What was timed.
        qualities: What was evaluated.

    Raises:
        MissingLibraryError: when matplotlib is not installed.
    """
    timed = [result for result in results if result.timing]
    kinds = list(dict.fromkeys(quality.panel for quality in qualities))
    count = bool(timed) + len(kinds)
    figure = _figure_class()(figsize=(_WIDTH * count, _HEIGHT), layout="constrained")
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    if timed:
        _draw_latency(panels.pop(0), timed)
    for panel, kind in zip(panels, kinds, strict=True):
        _draw_quality(panel, [each for each in qualities if each.panel == kind])
    return figure


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise MissingLibraryError(
            f"cannot plot: {error}", "pip install 'diffir-cli[plot]', or leave --plot out"
        ) from error
    return Figure


def _draw_latency(panel: Any, timed: Sequence[Result]) -> None:
    """One line for each network, engine and precision, on logarithmic scales."""
    lines: dict[tuple[Subject, Variant], list[Result]] = {}
    for result in timed:
        lines.setdefault((result.case.subject, result.case.variant), []).append(result)
    for (subject, variant), found in lines.items():
        label = f"{subject.name}, {variant}"
        found.sort(key=lambda result: result.case.width * result.case.height)
        xs = _sides(found)
        times = [result.timing for result in found if result.timing]
        middles = [timing.p50 for timing in times]
        below = [timing.p50 - timing.percentile(10) for timing in times]
        above = [timing.percentile(90) - timing.p50 for timing in times]
        panel.errorbar(xs, middles, yerr=(below, above), marker="o", capsize=3, label=label)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    sides = sorted({x for found in lines.values() for x in _sides(found)})
    panel.set_xticks(sides, [f"{side:.0f}" for side in sides])
    panel.tick_params(axis="x", which="minor", bottom=False)
    panel.set(
        xlabel="side of the input (pixels; √(W·H))",
        ylabel="seconds (median, p10 to p90)",
        title="Latency",
    )
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")


def _sides(found: Sequence[Result]) -> list[float]:
    return [(result.case.width * result.case.height) ** 0.5 for result in found]


_CORNERS = ((6, 6, "left"), (-6, 6, "right"), (6, -14, "left"), (-6, -14, "right"))
"""Where a name stands beside its point, in points, and to which side it is aligned."""


def _draw_quality(panel: Any, qualities: Sequence[Quality]) -> None:
    """A point for each network, a level for what costs no network."""
    seen: Counter[int] = Counter()
    for quality in qualities:
        point = quality.mult_adds / 1e9, quality.psnr
        panel.plot(*point, "o")
        # Networks of one cost stand above each other: their names go to different sides.
        aside, above, side = _CORNERS[seen[quality.mult_adds] % len(_CORNERS)]
        seen[quality.mult_adds] += 1
        corner = {"xytext": (aside, above), "textcoords": "offset points"}
        panel.annotate(quality.weights, point, ha=side, **corner)
    others = {name: value for quality in qualities for name, value in quality.others.items()}
    for name, value in others.items():
        panel.axhline(value, linestyle="--", color="grey", linewidth=1)
        place = (0.01, value)
        panel.annotate(name, place, xycoords=("axes fraction", "data"), va="bottom", color="grey")
    panel.set_xscale("log")
    panel.margins(0.25)
    panel.set(
        xlabel=f"Mult-Adds at {SIDE}×{SIDE} (G, exact)",
        ylabel="PSNR (dB)",
        title=f"Cost and quality, protocol {qualities[0].protocol}, ×{qualities[0].scale}",
    )
    panel.grid(alpha=0.3)
