"""Files that results are reported in, as options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

ReportFile = Path | None
CsvFile = Annotated[
    ReportFile,
    typer.Option("--csv", metavar="FILE", help="Write the results as CSV.", show_default=False),
]
MarkdownFile = Annotated[
    ReportFile,
    typer.Option(
        "--markdown", metavar="FILE", help="Write the results as Markdown.", show_default=False
    ),
]
HtmlFile = Annotated[
    ReportFile,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Write an HTML page with before/after sliders.",
        show_default=False,
    ),
]


def check_reports(files: Mapping[str, Path | None], overwrite: bool) -> None:
    """Refuse reports that cannot be written, before anything is measured for them.

    Args:
        files: By the names of their options, without hyphens in front.
        overwrite: Whether they may replace files.

    Raises:
        InputError: when one of them cannot be written.
        BadParameter: when two of them are one file.
    """
    from diffir_cli.util.files import check_new_file

    named = [file for file in files.values() if file]
    for file in named:
        check_new_file(file, overwrite)
    if len({file.resolve() for file in named}) < len(named):
        *first, last = (f"--{name}" for name in files)
        raise typer.BadParameter(f"{', '.join(first)} and {last} must name different files")
