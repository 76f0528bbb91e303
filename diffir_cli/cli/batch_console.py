"""What `diffir batch` says: to programs, to people with a terminal, or to a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffir_cli.cli.console import print_json, print_message, print_table
from diffir_cli.cli.progress import Progress
from diffir_cli.errors import DiffIRError

if TYPE_CHECKING:
    from diffir_cli.batch.batch import Plan
    from diffir_cli.batch.plan import Job
    from diffir_cli.batch.request import Request
    from diffir_cli.batch.work import Outcome
    from diffir_cli.runtime.runner import ModelRunner


class Reporter:
    """What a run says as it goes."""

    def __init__(self, json: bool, quiet: bool, no_progress: bool) -> None:
        self.json, self.quiet, self.no_progress = json, quiet, no_progress
        self.fault: DiffIRError | None = None
        """Why JSON could not be written any more."""

    def planned(self, plan: Plan, request: Request) -> None:
        """Say what will not be done, and what again."""
        left = plan.remaining
        again = [job for job in left.todo if job.redone]
        if self.quiet:
            return
        if left.finished:
            print_message(f"{_pictures(len(left.finished), 'was', 'were')} finished before")
        if left.kept:
            print_message(
                f"{_pictures(len(left.kept), 'is', 'are')} skipped: the output file exists"
            )
        if not left.todo:
            print_message("nothing to do")
            return
        print_message(f"{_pictures(len(left.todo))} to restore, {_megapixels(plan.pixels)}")
        needed, free = plan.output_bytes(request), plan.free_bytes(request.place)
        if free is not None and needed > free:
            print_message(
                f"results may need {needed >> 20} MiB, but only {free >> 20} MiB are free"
            )
        for job in again:
            print_message(f"{job.output} is made again: {job.redone}")

    def finished(self, outcome: Outcome, progress: Progress) -> None:
        """Say what became of a picture."""
        job = outcome.job
        if outcome.error:
            progress.line(f"error: {outcome.error}")
            if outcome.hint:
                progress.line(f"hint: {outcome.hint}")
        elif not (self.quiet or self.json):
            width, height = outcome.size
            tiles = f", in tiles of {outcome.tiles} pixels" if outcome.tiles else ""
            progress.note(
                f"{job.target}: {width}×{height} pixels in {outcome.seconds:.1f} s{tiles}"
            )
        if self.json and not self.fault:
            try:
                print_json(_of_outcome(outcome))
            except DiffIRError as error:
                self.fault = error
                progress.line(f"error: {error.message}; the run goes on without")


def print_summary(summary: dict[str, Any]) -> None:
    """One line at the end of a run."""
    parts = [f"{summary['done']} done"]
    for key, words in (
        ("failed", "failed"),
        ("finished_before", "finished before"),
        ("left_out", "left out"),
        ("not_begun", "not begun"),
    ):
        if summary[key]:
            parts.append(f"{summary[key]} {words}")
    print_message(f"{', '.join(parts)}, in {summary['seconds']:.1f} s")


def _of_outcome(outcome: Outcome) -> dict[str, Any]:
    job = outcome.job
    found = {"input": str(job.source), "output": str(job.target)}
    if outcome.error:
        return {**found, "status": "failed", "error": outcome.error, "hint": outcome.hint}
    return {
        **found,
        "status": "done",
        "output_size": list(outcome.size),
        "seconds": outcome.seconds,
        "tile": outcome.tiles,
        "precision": outcome.precision,
        "redone_in_fp32": outcome.redone,
    }


def show_plan(request: Request, restorer: ModelRunner, json: bool) -> None:
    """Say what would be done."""
    from diffir_cli.batch.batch import make_plan, seconds_per_pixel

    plan = make_plan(request, None if request.cluster else restorer, dry=True)
    left = plan.remaining
    broken = [job for job in left.todo if job.error]
    processes = max(1, len(request.devices))
    good = [job for job in left.todo if not job.error]
    pixels = sum(job.pixels for job in good)
    seconds = seconds_per_pixel(restorer) * pixels / processes if good else 0.0
    needed, free = plan.output_bytes(request), plan.free_bytes(request.place)
    if json:
        for job in left.todo:
            state = "error" if job.error else _state(job)
            planned = {"input": str(job.source), "output": str(job.target), "state": state}
            print_json({**planned, "pixels": job.pixels, "error": job.error, "why": job.redone})
        print_json(
            {
                "summary": True,
                "to_do": len(good),
                "will_fail": len(broken),
                "finished_before": len(left.finished),
                "left_out": len(left.kept),
                "pixels": plan.pixels,
                "estimated_bytes": needed,
                "free_bytes": free,
                "estimated_seconds": round(seconds, 6),
            }
        )
        return
    rows = [[str(job.source), str(job.target), job.error or _described(job)] for job in left.todo]
    print_table(["input", "output", "state"], rows, numbers=False)
    print_message(
        f"{_pictures(len(good))} to restore, {_megapixels(plan.pixels)}, about "
        f"{_duration(seconds)}; {len(broken)} will fail, {len(left.finished)} were finished "
        f"before, {len(left.kept)} are left out"
    )
    room = "" if free is None else f"; {free / 2**20:.0f} MiB are free"
    print_message(f"results take about {needed / 2**20:.0f} MiB{room}")


def _state(job: Job) -> str:
    """What becomes of the name of a result."""
    if job.redone:
        return "again"
    return "replaces" if job.overwrite else "new"


def _described(job: Job) -> str:
    return f"again, since {job.redone}: replaces" if job.redone else _state(job)


def _pictures(count: int, one: str = "", many: str = "") -> str:
    """`1 picture was` or `3 pictures were`."""
    return f"{count} picture {one}".rstrip() if count == 1 else f"{count} pictures {many}".rstrip()


def _megapixels(pixels: int) -> str:
    return f"{pixels / 1e6:.1f} megapixels" if pixels > 50_000 else f"{pixels:,} pixels"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
