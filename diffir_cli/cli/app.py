"""The Typer application: commands are collected here, faults become lines and exit codes."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from diffir_cli.cli import (
    ablate,
    batch,
    benchmark,
    convert,
    degrade,
    doctor,
    download,
    evaluate,
    export,
    restore,
    train,
)
from diffir_cli.cli.command import Command
from diffir_cli.cli.console import print_message, take_any_text
from diffir_cli.cli.usage import TyperUsageError, explain
from diffir_cli.errors import DeviceError, DiffIRError, UsageError
from diffir_cli.util.process import prepare_process
from diffir_cli.version import __version__

INTERRUPTED = 130
"""The exit code of Ctrl-C."""
_LESS_MEMORY = "use a smaller --tile or --max-memory, or a machine with more memory"


class _Group(TyperGroup):
    """Turns every fault into one or two lines and its exit code."""

    def main(self, *args: Any, **settings: Any) -> NoReturn:
        try:
            code = super().main(*args, **{**settings, "standalone_mode": False})
        except TyperUsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                print_message(str(error))
                sys.exit(UsageError.exit_code)
            code = _report(explain(error))
        except typer.Abort:
            # Ctrl-C, or the end of stdin, at a question.
            code = _report(DiffIRError("interrupted"), INTERRUPTED)
        sys.exit(code or 0)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DiffIRError as error:
            code = _report(error)
        except MemoryError:
            code = _report(DeviceError("the machine ran out of memory", _LESS_MEMORY))
        except RuntimeError as error:
            # By name: torch is not loaded for what does not need it.
            if type(error).__name__ != "OutOfMemoryError":
                raise
            code = _report(DeviceError("the device ran out of memory", _LESS_MEMORY))
        except KeyboardInterrupt:
            code = _report(DiffIRError("interrupted"), INTERRUPTED)
        raise typer.Exit(code)


app = typer.Typer(
    cls=_Group,
    help="Restore images with DiffIR: super-resolution, deblurring, inpainting.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    restore.restore,
    batch.batch,
    evaluate.evaluate,
    download.download_weights,
    benchmark.benchmark,
    train.train,
    ablate.ablate,
    degrade.degrade,
    convert.convert,
    export.export,
    doctor.doctor,
):
    app.command(cls=Command)(_command)


def main() -> None:
    """Run the command line."""
    take_any_text()
    prepare_process()
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.addLevelName(logging.WARNING, "warning")
    # It prints tracebacks of servers that make no sense.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    logging.addLevelName(logging.INFO, "info")
    try:
        app()
    except KeyboardInterrupt:
        # So early that no command has begun yet.
        sys.exit(INTERRUPTED)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"diffir {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            help="Print the version.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    pass


def _report(error: DiffIRError, code: int | None = None) -> int:
    """Print a fault, with its hint where there is one; the exit code."""
    _print("error", error.message, typer.colors.RED)
    if error.hint:
        _print("hint", error.hint, typer.colors.CYAN)
    return error.exit_code if code is None else code


def _print(kind: str, text: str, colour: str) -> None:
    coloured = sys.stderr is not None and sys.stderr.isatty() and "NO_COLOR" not in os.environ
    styled = typer.style(f"{kind}:", fg=colour, bold=True) if coloured else f"{kind}:"
    print_message(f"{styled} {text}")
