"""Options that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.config import Precision, Task

TaskName = Annotated[Task, typer.Option("--task", help="What is wrong with the picture.")]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        "-w",
        metavar="NAME|FILE",
        help="Weights by name or file; by default the task's own.",
        show_default=False,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        metavar="DEVICE",
        envvar="DIFFIR_DEVICE",
        help="auto, cpu, cuda or cuda:N.",
    ),
]
PrecisionName = Annotated[
    Precision, typer.Option("--precision", help="Number format; auto is fp32 on a CPU.")
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**63 - 1, help="The same seed gives the same picture.")
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="CPU threads; by default all.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing unless it fails.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
Mask = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        metavar="FILE",
        help="For inpaint: an image of the same size, white where to fill.",
        show_default=False,
    ),
]
MaskInvert = Annotated[bool, typer.Option("--mask-invert", help="Fill where the mask is black.")]
MaskDilate = Annotated[
    int, typer.Option("--mask-dilate", min=0, max=1000, help="Grow the holes by N pixels.")
]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FILE", help="Where to write: .png, .jpg or .webp."),
]
ReportFile = Path | None
CsvFile = Annotated[
    ReportFile,
    typer.Option(
        "--csv", metavar="FILE", help="Write the numbers, a line each.", show_default=False
    ),
]
MarkdownFile = Annotated[
    ReportFile,
    typer.Option("--markdown", metavar="FILE", help="Write the table.", show_default=False),
]
HtmlFile = Annotated[
    ReportFile,
    typer.Option(
        "--html", metavar="FILE", help="Write a page with before and after.", show_default=False
    ),
]
