"""Files that commands write beside images: their options, checked before the work."""

from __future__ import annotations

from collections.abc import Mapping
from os.path import realpath
from pathlib import Path
from typing import Annotated

from diffir_cli.cli import panels
from diffir_cli.errors import InputError, UsageError

ReportFile = Path | None
CsvFile = Annotated[
    ReportFile, panels.input_output("--csv", metavar="FILE", help="Write the results as CSV.")
]
MarkdownFile = Annotated[
    ReportFile,
    panels.input_output("--markdown", metavar="FILE", help="Write the results as Markdown."),
]
HtmlReport = Annotated[
    ReportFile,
    panels.input_output(
        "--report", metavar="FILE", help="Write an HTML page with before/after sliders."
    ),
]


_ENDINGS = {"report": (".html", ".htm"), "plot": (".png",)}
"""Endings of the files that are made in one format alone."""


def check_reports(files: Mapping[str, Path | None], overwrite: bool) -> None:
    """Refuse reports that cannot be written, before anything is measured for them.

    Args:
        files: By the names of their options, without hyphens in front.
        overwrite: Whether they may replace files.

    Raises:
        InputError: when one of them cannot be written, or has the ending of another format.
        UsageError: when two of them are one file.
    """
    from diffir_cli.util.files import check_new_file

    seen: set[str] = set()
    for name, file in files.items():
        if file is None:
            continue
        check_new_file(file, overwrite)
        endings = _ENDINGS.get(name)
        if endings and file.suffix.lower() not in endings:
            raise InputError(
                f"{file} must end in {endings[0]}", f"write {file.with_suffix(endings[0])}"
            )
        if realpath(file) in seen:
            raise UsageError(f"{file} is named twice", f"give --{name} a file of its own")
        seen.add(realpath(file))


def output_file(
    file: Path | None, ending: str, overwrite: bool, source: Path | None = None
) -> Path:
    """The one file that a command writes.

    Args:
        file: As it was named, if it was.
        ending: That the file must have.
        overwrite: Whether it may replace a file.
        source: The file that is read, if it must be another one.

    Raises:
        UsageError: when it is not named, or names the source.
        InputError: when it cannot be written, or has another ending.
    """
    from diffir_cli.util.files import check_new_file

    if file is None:
        raise UsageError("--output is missing", f"add -o FILE{ending}")
    if source and file.exists() and source.exists() and file.samefile(source):
        raise UsageError(f"{file} is named twice", "give --output a file of its own")
    if file.suffix != ending and file.name:
        raise InputError(f"{file} must end in {ending}", f"write {file.with_suffix(ending)}")
    check_new_file(file, overwrite)
    return file
