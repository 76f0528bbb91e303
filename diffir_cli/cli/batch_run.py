"""A run of `diffir batch` as a person follows it: progress, signals, a summary, an exit code."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from diffir_cli.cli.batch_console import Reporter, print_summary
from diffir_cli.cli.console import print_json, print_message
from diffir_cli.cli.progress import make_progress
from diffir_cli.util.signals import handled

if TYPE_CHECKING:
    from diffir_cli.batch.plan import Job
    from diffir_cli.batch.request import Request
    from diffir_cli.batch.resume import Remaining
    from diffir_cli.batch.work import Outcome
    from diffir_cli.runtime.runner import ModelRunner

_FEW = 20
"""Pictures of which each line can still be seen at the end."""
FAILED, INTERRUPTED = 3, 130
"""Exit codes for pictures that failed, and for a run that was stopped."""


def run_batch(
    request: Request, restorer: ModelRunner, report: Path | None, reporter: Reporter
) -> None:
    """Restore what is left to do.

    Raises:
        Exit: when pictures failed, or the run was stopped.
        DiffIRError: when the JSON could not be written any more.
    """
    from diffir_cli.batch.batch import make_plan, run_plan

    started = time.monotonic()
    plan = make_plan(request, None if request.cluster else restorer)
    reporter.planned(plan, request)
    outcomes: list[Outcome] = []
    todo = plan.remaining.todo
    stop = threading.Event()
    quiet = reporter.quiet or reporter.json or reporter.no_progress
    with make_progress(len(todo), plan.pixels, quiet) as progress, _stopping(stop, reporter.quiet):

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            progress.advance(outcome.job.pixels)
            reporter.finished(outcome, progress)

        def begin(job: Job) -> None:
            progress.current(str(job.source))

        run_plan(plan, request, restorer, stop, begin, done, progress.share)
    failures = [outcome for outcome in outcomes if outcome.error]
    interrupted = len(outcomes) < len(todo) and not (request.fail_fast and failures)
    seconds = round(time.monotonic() - started, 3)
    counts = _counts(plan.remaining, len(outcomes), len(failures))
    summary = {"summary": True, **counts, "seconds": seconds, "interrupted": interrupted}
    # A run that restored nothing has nothing to show in the place of an earlier page.
    if report and (len(outcomes) > len(failures) or not report.exists()):
        from diffir_cli.batch.report import write_report

        write_report(report, request, outcomes, summary)
    elif report and not reporter.quiet:
        print_message(f"no image was restored: {report} stays as it was")
    if reporter.fault:
        raise reporter.fault
    if reporter.json:
        print_json(summary)
    elif not reporter.quiet:
        print_summary(summary)
    if len(outcomes) > _FEW and failures and not reporter.json:
        # Those said on the way have scrolled away.
        for outcome in failures:
            print_message(f"failed: {outcome.error}")
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if failures:
        raise typer.Exit(FAILED)


def _counts(left: Remaining, tried: int, failed: int) -> dict[str, int]:
    """How many pictures came to which end."""
    return {
        "done": tried - failed,
        "failed": failed,
        "finished_before": len(left.finished),
        "left_out": len(left.kept),
        "not_begun": len(left.todo) - tried,
    }


def _stopping(stop: threading.Event, quiet: bool) -> AbstractContextManager[None]:
    """Ctrl-C, SIGTERM and SIGHUP end the run after the current picture, a second one at once."""

    def handle(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        if not quiet:
            print_message("finishing the current image; press Ctrl-C again to stop now")

    return handled(handle)
