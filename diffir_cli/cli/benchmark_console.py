"""What `diffir benchmark` says, writes and draws."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from diffir_cli.cli.console import on_terminal, print_json, print_message, print_table, print_text
from diffir_cli.errors import DeviceError, DiffIRError

if TYPE_CHECKING:
    from diffir_cli.benchmark.case import Case
    from diffir_cli.benchmark.compare import Comparison
    from diffir_cli.benchmark.growth import Growth
    from diffir_cli.benchmark.machine import Machine
    from diffir_cli.benchmark.quality import Quality
    from diffir_cli.benchmark.run import PeakRates, Result, Settings
    from diffir_cli.benchmark.sizes import Size
    from diffir_cli.benchmark.tables import Table


@dataclass
class Reporter:
    """The reports of a run: on the terminal, and in the files that were asked for."""

    machine: Machine
    settings: Settings
    parts: bool
    """Whether levels and block kinds are shown."""
    results: list[Result] = field(default_factory=list, init=False)
    growths: list[Growth] = field(default_factory=list, init=False)
    comparison: Comparison | None = field(default=None, init=False)
    interrupted: bool = field(default=False, init=False)

    def take(self, results: Iterable[Result], each: bool) -> None:
        """Keep results as they come, until there are no more or a user has enough of it.

        Args:
            results: What is being measured.
            each: Whether a line is said of each, where no spinner turns.
        """
        each = each and sys.stderr is not None and not on_terminal()
        try:
            for result in results:
                self.results.append(result)
                if each:
                    print_message(_line(result))
        except KeyboardInterrupt:
            if not self.results:
                raise
            self.interrupted = True

    def conclude(self, peaks: PeakRates, sizes: Sequence[Size]) -> None:
        """Work out what only all results together can tell.

        Args:
            peaks: Of this run.
            sizes: Of a sweep; empty for none.
        """
        from diffir_cli.benchmark.growth import fit_growth

        self.results = peaks.hold(self.results)
        for subject in dict.fromkeys(result.case.subject for result in self.results):
            if sizes:
                own = [result for result in self.results if result.case.subject == subject]
                self.growths += fit_growth(own, sizes)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        from diffir_cli.benchmark.report import as_dict

        found = as_dict(self.machine, self.settings, self.results, self.growths)
        if self.comparison:
            found["comparison"] = self.comparison.to_dict()
        return found

    def tables(self) -> list[Table]:
        """For people."""
        from diffir_cli.benchmark.tables import tables

        found = tables(self.results, self.growths, self.parts)
        return found + ([self.comparison.table()] if self.comparison else [])

    def remarks(self) -> list[str]:
        """What casts doubt on figures."""
        from diffir_cli.benchmark.report import remarks

        lines = remarks(self.machine, self.results)
        if self.comparison:
            lines += [f"warning: not alike: {each}" for each in self.comparison.unlike]
            lines += [f"warning: not measured now: {each}" for each in self.comparison.missing]
            lines += [f"warning: not measured then: {each}" for each in self.comparison.added]
            lines += [f"warning: not compared: {each}" for each in self.comparison.uncompared]
        return lines

    def draw(self, path: Path, qualities: Sequence[Quality], overwrite: bool) -> None:
        """Write the picture, if there is anything on it."""
        from diffir_cli.benchmark.plot import draw_plot
        from diffir_cli.util.files import write_report

        if qualities or any(result.timing for result in self.results):
            write_report(path, draw_plot(self.results, qualities), overwrite)

    def compare(self, old: Mapping[str, Any], tolerance: float) -> int:
        """Put an older run beside this one; how many figures are beyond the tolerance."""
        from diffir_cli.benchmark.compare import compare

        self.comparison = compare(old, self.as_dict(), tolerance)
        return len(self.comparison.worse)

    def write(self, csv: Path | None, markdown: Path | None, overwrite: bool) -> None:
        """Write the reports that were requested."""
        from diffir_cli.benchmark.report import as_csv, as_markdown
        from diffir_cli.util.files import write_text

        if csv:
            write_text(csv, as_csv(self.as_dict()), overwrite)
        if markdown:
            page = as_markdown(self.machine.lines(), self.tables(), self.remarks())
            write_text(markdown, page, overwrite)

    def show(self, json: bool, quiet: bool) -> None:
        """Figures on stdout, doubts on stderr."""
        if json:
            print_json(self.as_dict())
        elif not quiet:
            print_text(*self.machine.lines())
            _print_tables(self.tables())
        for line in self.remarks():
            if not quiet or line.startswith("error:"):
                print_message(line)

    def finish(self, worse: int, tolerance: float) -> None:
        """End with what went wrong.

        Raises:
            KeyboardInterrupt: when a user had enough of it.
            Exit: when a case could not be measured.
            DiffIRError: when figures are beyond the tolerance, or none could be compared.
        """
        if self.interrupted:
            raise KeyboardInterrupt
        if self.comparison and not self.comparison.changes:
            raise DiffIRError("nothing that both runs measured can be compared")
        if worse:
            figures = "1 figure is" if worse == 1 else f"{worse} figures are"
            raise DiffIRError(
                f"{figures} worse than before by more than {100 * tolerance:.0f} %",
                "run it again on an idle machine, or raise --tolerance",
            )
        if any(result.error for result in self.results):
            raise typer.Exit(DeviceError.exit_code)


def read_others(
    compare: Path | None,
    quality: Sequence[Path],
    plot: Path | None,
    cases: Sequence[Case],
    cost_only: bool,
) -> tuple[dict[str, Any] | None, list[Quality]]:
    """What other runs found, refused before anything is measured.

    Args:
        compare: An older run, or None.
        quality: What was evaluated.
        plot: Whether anything is drawn.
        cases: What is going to be measured.
        cost_only: Whether it is only counted.

    Raises:
        InputError: when a file is of another kind, or has nothing to do with these cases.
        DiffIRError: when nothing can be drawn.
    """
    from diffir_cli.benchmark.compare import check_common, read_results
    from diffir_cli.benchmark.plot import check_plotting
    from diffir_cli.benchmark.quality import check_alike, read_quality

    if plot:
        check_plotting()
    old = read_results(compare) if compare else None
    if old is not None:
        check_common(old, cases, cost_only)
    qualities = [read_quality(path, {case.subject for case in cases}) for path in quality]
    check_alike(qualities)
    return old, qualities


def print_paper(markdown: Path | None, overwrite: bool, json: bool, quiet: bool) -> None:
    """The paper's figures beside ours."""
    from diffir_cli.benchmark.paper import ASSUMED, paper_rows
    from diffir_cli.benchmark.report import as_markdown
    from diffir_cli.benchmark.tables import paper_table
    from diffir_cli.util.files import write_text

    rows = paper_rows()
    table = paper_table(rows)
    if markdown:
        write_text(markdown, as_markdown([], [table], [ASSUMED]), overwrite)
    if json:
        describe = [{**asdict(row), "agrees": row.agrees} for row in rows]
        print_json({"paper": describe, "remarks": [ASSUMED]})
    elif not quiet:
        _print_tables([table])
    if not quiet:
        print_message(f"note: {ASSUMED}")


def _line(result: Result) -> str:
    """What is said of a case as soon as it is measured."""
    from diffir_cli.benchmark.report import describe

    if result.timing is None:
        return f"{describe(result)}: failed"
    return f"{describe(result)}: {1000 * result.timing.p50:.1f} ms"


def _print_tables(tables: Sequence[Table]) -> None:
    for table in tables:
        print_text("", table.title)
        print_table(table.header, table.rows, words=table.words)
