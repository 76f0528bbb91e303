"""Scores as what people and programs read: a table, JSON, CSV, Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from diffir_cli.evaluation.evaluate import Scores
from diffir_cli.util.text import shown

_TITLES = {"psnr": "PSNR", "ssim": "SSIM", "dists": "DISTS", "fid": "FID"}


def table(found: Sequence[Scores]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: an image a row, then the mean and the deviation, then metrics of the set."""
    columns = [(scores, metric) for scores in found for metric in scores.values]
    many = len(found) > 1
    header = ["image", *(title(scores.method, metric, many) for scores, metric in columns)]
    rows = [
        [name, *(number(metric, scores.values[metric][place]) for scores, metric in columns)]
        for place, name in enumerate(found[0].names)
    ]
    rows.append(
        [f"mean of {len(found[0].names)}"]
        + [number(metric, scores.mean(metric)) for scores, metric in columns]
    )
    rows.append(
        ["± deviation", *(number(metric, scores.std(metric)) for scores, metric in columns)]
    )
    return header, rows


def remarks(found: Sequence[Scores]) -> list[str]:
    """What stands under the table: the worst images, and metrics of the whole set."""
    worst = ", ".join(f"{name} {number('psnr', value)} dB" for name, value in found[0].worst())
    lines = [f"lowest PSNR: {worst}"]
    for scores in found:
        lines += [
            f"{title(scores.method, metric, len(found) > 1)}: {number(metric, value)}"
            + (" (a single pair has none)" if math.isnan(value) else "")
            for metric, value in scores.overall.items()
        ]
    return lines


def title(method: str, metric: str, many: bool) -> str:
    """What a column is called."""
    named = _TITLES.get(metric, metric.upper().replace("-", " "))
    return f"{method} {named}" if many else named


def number(metric: str, value: float) -> str:
    """A value with the digits that papers give it; a dash where there is none."""
    if math.isnan(value):
        return "–"
    return f"{value:.2f}" if metric in ("psnr", "fid") else f"{value:.4f}"


def as_dict(found: Sequence[Scores]) -> dict[str, Any]:
    """Scores as values that JSON can hold; null stands for the PSNR of equal images."""
    return {scores.method: _method_dict(scores) for scores in found}


def _method_dict(scores: Scores) -> dict[str, Any]:
    images = [
        {"name": name, **{m: _finite(values[place]) for m, values in scores.values.items()}}
        for place, name in enumerate(scores.names)
    ]
    return {
        "images": images,
        "mean": {metric: _finite(scores.mean(metric)) for metric in scores.values},
        "std": {metric: _finite(scores.std(metric)) for metric in scores.values},
        **{metric: _finite(value) for metric, value in scores.overall.items()},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def as_csv(found: Sequence[Scores]) -> str:
    """One line for each image and method, with full precision; `inf` for equal images.

    Metrics that only the whole set has stand in a line of their own, without an image.
    """
    metrics, overall = list(found[0].values), list(found[0].overall)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "method", *metrics, *overall])
    for scores in found:
        for place, name in enumerate(scores.names):
            values = (scores.values[metric][place] for metric in metrics)
            writer.writerow([name, scores.method, *values, *("" for _ in overall)])
        if overall:
            of_set = scores.overall.values()
            writer.writerow(["", scores.method, *("" for _ in metrics), *of_set])
    return text.getvalue()


def as_markdown(found: Sequence[Scores], caption: str) -> str:
    """The table of `table` in Markdown, with a caption above and remarks below."""
    header, rows = table(found)
    return "\n".join([caption, "", *markdown_table(header, rows), "", *remarks(found)]) + "\n"


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1
) -> list[str]:
    """The lines of a table in Markdown, all columns but the first `words` for numbers."""
    kinds = ["---"] * words + ["---:"] * (len(header) - words)
    return [_row(header), _row(kinds), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(shown(cell).replace("|", "\\|") for cell in cells) + " |"
