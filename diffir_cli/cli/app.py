"""The Typer application: commands are collected here, faults become lines and exit codes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
from diffir_cli.cli.console import (
    ShownFormatter,
    help_to_stdout,
    on_terminal,
    print_message,
    print_text,
    take_any_text,
)
from diffir_cli.cli.usage import TyperUsageError, explain
from diffir_cli.errors import DeviceError, DiffIRError, UsageError
from diffir_cli.util.process import prepare_process
from diffir_cli.util.signals import end_in_order
from diffir_cli.version import __version__

INTERRUPTED = 130
"""The exit code of Ctrl-C."""
_PIPE_CLOSED = 141
"""That of programs that write to a closed pipe."""
_LESS_MEMORY = "use a smaller --tile or --max-memory, or a machine with more memory"


class _Group(TyperGroup):
    """Turns every fault into one or two lines and its exit code."""

    def main(self, *args: Any, **settings: Any) -> NoReturn:
        try:
            code = super().main(*args, **{**settings, "standalone_mode": False})
        except TyperUsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                for line in str(error).splitlines():
                    print_message(line)
                sys.exit(UsageError.exit_code)
            code = _report(explain(error))
        except typer.Abort:
            # Ctrl-C, or the end of stdin, at a question.
            code = _report(DiffIRError("interrupted"), INTERRUPTED)
        except DiffIRError as error:
            # Of `--help` and `--version`, which are printed before there is a command.
            code = _report(error)
        sys.exit(code or 0)

    def make_context(self, *args: Any, **others: Any) -> Any:
        with _pipes(), help_to_stdout():
            return super().make_context(*args, **others)

    def invoke(self, ctx: Any) -> Any:
        with _pipes():
            return self._invoke(ctx)

    def _invoke(self, ctx: Any) -> Any:
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


@contextmanager
def _pipes() -> Iterator[None]:
    """End quietly where nobody reads on."""
    try:
        yield
    except BrokenPipeError:
        # Else Python tries again at its end and prints a traceback.
        sys.stdout = None
        raise typer.Exit(_PIPE_CLOSED) from None


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
    end_in_order()
    to_stderr = logging.StreamHandler()
    to_stderr.setFormatter(ShownFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[to_stderr], level=logging.WARNING)
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
        print_text(f"diffir {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", help="Print the version.", is_eager=True, callback=_print_version
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
    coloured = on_terminal() and "NO_COLOR" not in os.environ
    styled = typer.style(f"{kind}:", fg=colour, bold=True) if coloured else f"{kind}:"
    print_message(text, f"{styled} ")
