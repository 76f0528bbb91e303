"""What `diffir evaluate` says, writes and shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffir_cli.cli.console import print_json, print_message, print_table, print_text
from diffir_cli.evaluation.kinds import ProtocolName
from diffir_cli.options import Task

if TYPE_CHECKING:
    from diffir_cli.evaluation.evaluate import Loaded, Measured, Viewer
    from diffir_cli.evaluation.html import Gallery
    from diffir_cli.evaluation.samples import Samples


def with_missing(caption: str, measured: Measured, unmatched: Sequence[Path]) -> str:
    """The caption of a report, which must not be taken for one of the whole set."""
    left_out = [failure.name for failure in measured.failures]
    left_out += [f"{path.name} (no matching file)" for path in unmatched]
    return f"{caption}. Not measured: {', '.join(left_out)}" if left_out else caption


def find_samples(
    results: Path | None,
    truth: Path | None,
    gt: Path | None,
    lq: Path | None,
    mask: Path | None,
    task: Task,
    protocol: ProtocolName,
    quiet: bool,
) -> Samples:
    """The pairs to measure, after warnings about files left out and pairs that may be wrong."""
    from diffir_cli.evaluation.samples import samples_of_results, samples_to_restore

    if results is not None and truth is not None:
        samples = samples_of_results(results, truth, mask, protocol)
    else:
        assert gt is not None
        samples = samples_to_restore(task, gt, lq, mask, protocol)
    if not quiet:
        for path in samples.unmatched:
            print_message(f"warning: {path} has no matching file and is skipped")
        if samples.alike:
            first, partner = samples.alike[0]
            print_message(
                f"note: {len(samples.alike)} paired because their names begin alike: "
                f"{first.name} with {partner.name}" + (" …" if len(samples.alike) > 1 else "")
            )
    return samples


def print_methods(
    measured: Measured,
    caption: str,
    about: Mapping[str, Any],
    unmatched: Sequence[Path],
    json: bool,
    quiet: bool,
) -> None:
    """What was measured on stdout, what could not be on stderr."""
    from diffir_cli.evaluation import report

    for failure in measured.failures:
        print_message(f"error: {failure.name}: {failure.error}")
    if json:
        missing = [str(path) for path in unmatched]
        failed = [
            {"name": failure.name, "error": str(failure.error)} for failure in measured.failures
        ]
        methods = report.as_dict(measured.scores)
        print_json({**about, "methods": methods, "unmatched": missing, "failed": failed})
    elif not quiet:
        print_table(*report.table(measured.scores))
        print_text(caption, *report.remarks(measured.scores))


def write_reports(
    measured: Measured,
    caption: str,
    files: Mapping[str, Path | None],
    gallery: Gallery | None,
    overwrite: bool,
) -> None:
    """The reports that were requested."""
    from diffir_cli.evaluation import report
    from diffir_cli.util.files import write_text

    if file := files["csv"]:
        write_text(file, report.as_csv(measured.scores), overwrite)
    if file := files["markdown"]:
        write_text(file, report.as_markdown(measured.scores, caption), overwrite)
    if (file := files["report"]) and gallery:
        gallery.caption = caption
        write_text(file, gallery.page(), overwrite)


def viewer(gallery: Gallery | None, finished: bool, fills: bool) -> Viewer:
    """Puts each image on the page, if there is one."""

    def view(loaded: Loaded, hq: Any, scores: Mapping[str, float]) -> None:
        if gallery is not None:
            lq = loaded.shown_lq() if fills else loaded.lq
            before = {} if finished else {"before": lq}
            gallery.add(loaded.name, {**before, "after": hq, "truth": loaded.gt}, scores)

    return view
