"""Results as tables that people read: headers, and rows of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from diffir_cli.benchmark.growth import Growth
from diffir_cli.benchmark.paper import PaperRow
from diffir_cli.benchmark.run import Result
from diffir_cli.benchmark.subprocess_run import SubprocessResult
from diffir_cli.benchmark.timing import Timing
from diffir_cli.models.cost import ModulePart

_Text = Callable[[Result], str]

DASH = "–"
"""Where there is no figure."""


@dataclass(frozen=True)
class Table:
    """What is printed, or written in Markdown."""

    title: str
    header: list[str]
    rows: list[list[str]]
    words: int = 1
    """Columns at the left that hold words."""


def tables(
    results: Sequence[Result], growths: Sequence[Growth] = (), parts: bool = False
) -> list[Table]:
    """Everything that there is to show of a run."""
    found = [cost_table(results)]
    if any(result.timing or result.error for result in results):
        found.append(latency_table(results))
    if parts:
        timed = [result for result in results if result.parts]
        found += [parts_table(result) for result in timed or _once_each(results)]
    if growths:
        found.append(growth_table(growths))
    return found


def cost_table(results: Sequence[Result]) -> Table:
    """Parameters and Mult-Adds of each network at each size, by both conventions."""
    header = ["weights", "input", "parameters (M)", "exact (G)", "paper (G)"]
    networks = list(dict.fromkeys(name for each in results for name in each.cost.parameters))
    header += [f"{network} (G)" for network in networks]
    rows = []
    for result in _once_each(results):
        cost = result.cost
        figures = [cost.exact, cost.paper, *(cost.network(each).mult_adds for each in networks)]
        millions = f"{cost.total_parameters / 1e6:.2f}"
        case = result.case
        size = f"{case.width}×{case.height}"
        rows.append([case.subject.name, size, millions, *(giga(figure) for figure in figures)])
    return Table("Mult-Adds", header, rows, 2)


def _timed(text: Callable[[Timing], str]) -> _Text:
    return lambda result: DASH if result.timing is None else text(result.timing)


def _ran(text: _Text) -> _Text:
    return lambda result: DASH if result.timing is None else text(result)


def _asked(text: Callable[[SubprocessResult], str]) -> _Text:
    return lambda result: DASH if result.in_subprocess is None else text(result.in_subprocess)


_COLUMNS: tuple[tuple[str, _Text], ...] = (
    ("p50 (ms)", _timed(lambda timing: _milli(timing.p50))),
    ("p90", _timed(lambda timing: _milli(timing.percentile(90)))),
    ("p99", _timed(lambda timing: _milli(timing.p99))),
    ("min", _timed(lambda timing: _milli(timing.best))),
    ("spread", _timed(lambda timing: _percent(timing.spread))),
    ("MPix/s", _ran(lambda result: f"{result.pixel_rate / 1e6:.3g}")),
    ("GFLOP/s", _ran(lambda result: f"{result.flops / 1e9:.0f}")),
    ("of peak", _ran(lambda result: _percent(result.share or None))),
    ("ratio", _ran(lambda result: _ratio(result))),
    ("cold start (s)", _asked(lambda in_subprocess: f"{in_subprocess.cold_start:.2f}")),
    ("RSS (MiB)", _asked(lambda in_subprocess: _mebi(in_subprocess.memory.resident))),
    # Of a GPU.
    ("allocated", _asked(lambda in_subprocess: _mebi(in_subprocess.memory.allocated))),
    ("reserved", _asked(lambda in_subprocess: _mebi(in_subprocess.memory.reserved))),
)


def latency_table(results: Sequence[Result]) -> Table:
    """Times, speed, ratio and memory of each case."""
    # Columns in which no row has a figure would only make the table wider.
    rows = [[text(result) for _, text in _COLUMNS] for result in results]
    kept = [place for place in range(len(_COLUMNS)) if any(row[place] != DASH for row in rows)]
    header = ["weights", "input", "engine", "precision", *(_COLUMNS[place][0] for place in kept)]
    body = [
        [*_which(result), result.case.variant.engine.value, result.case.variant.precision.value]
        + [row[place] for place in kept]
        for result, row in zip(results, rows, strict=True)
    ]
    return Table("Latency", header, body, 4)


def parts_table(result: Result) -> Table:
    """Mult-Adds of each level and block kind, with times where they were taken."""
    cost, timed = result.cost, result.parts
    header = ["level", "kind", "Mult-Adds (M)", "share"]
    header += ["ms", "of time", "GFLOP/s"] if timed else []
    rows = [_part_row(place.level, place.kind, [place], result) for place in cost.parts]
    for kind in dict.fromkeys(part.kind for part in cost.parts):
        rows.append(_part_row("all", kind, [p for p in cost.parts if p.kind == kind], result))
    if timed:
        rest = max(timed[1] - sum(timed[0].values()), 0.0)
        rows.append(["all", "rest", DASH, DASH, _milli(rest), _percent(rest / timed[1]), DASH])
    title = f"Parts of {result.case.subject.name}, {result.case.width}×{result.case.height}"
    if timed:
        title += f", engine reference, {result.case.variant.precision.value}"
    return Table(title, header, rows, 2)


def _part_row(level: str, kind: str, places: Sequence[ModulePart], result: Result) -> list[str]:
    count = sum(result.cost.parts[place].mult_adds for place in places)
    row = [level, kind, f"{count / 1e6:.1f}", _percent(count / result.cost.exact)]
    if result.parts:
        spent = sum(result.parts[0].get(place, 0.0) for place in places)
        speed = f"{2 * count / spent / 1e9:.0f}" if count and spent else DASH
        row += [_milli(spent), _percent(spent / result.parts[1]), speed]
    return row


def growth_table(growths: Sequence[Growth]) -> Table:
    """The exponent of each sweep."""
    header = ["weights", "engine", "precision", "seconds ∝ pixels^", "sizes", "left out"]
    rows = []
    for growth in growths:
        exponent = DASH if growth.exponent is None else f"{growth.exponent:.2f}"
        left = ", ".join(f"{width}×{height}" for width, height in growth.left_out)
        variant = growth.variant.engine.value, growth.variant.precision.value
        rows.append([growth.subject.name, *variant, exponent, str(len(growth.sizes)), left or DASH])
    return Table("Growth", header, rows, 3)


def paper_table(rows: Sequence[PaperRow]) -> Table:
    """The paper's figures beside ours."""
    header = ["source", "what", "unit", "paper", "ours, as the paper counts", "ours, exact"]
    body = []
    for row in rows:
        figures = (row.published, row.ours, row.exact)
        texts = [DASH if value is None else f"{value:.{row.digits}f}" for value in figures]
        body.append([row.source, row.what, row.unit, *texts])
    return Table("The paper's figures at 256×256", header, body, 3)


def _once_each(results: Sequence[Result]) -> list[Result]:
    """One result for each network and size."""
    found: dict[tuple[object, ...], Result] = {}
    for result in results:
        key = result.case.subject, result.case.width, result.case.height
        if key not in found:
            found[key] = result
    return list(found.values())


def _which(result: Result) -> list[str]:
    random = "" if result.case.subject.path else " (random)"
    return [f"{result.case.subject.name}{random}", f"{result.case.width}×{result.case.height}"]


def giga(count: float) -> str:
    """Mult-Adds in G, with four digits where they are few."""
    return f"{count / 1e9:.2f}" if count >= 1e7 else f"{count / 1e9:.4f}"


def _milli(seconds: float | None) -> str:
    return DASH if seconds is None else f"{1000 * seconds:.1f}"


def _percent(share: float | None) -> str:
    return DASH if share is None else f"{100 * share:.0f} %"


def _ratio(result: Result) -> str:
    ratio = result.ratio
    return DASH if ratio is None else f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"


def _mebi(size: int | None) -> str:
    return DASH if size is None else f"{size / 2**20:.0f}"
