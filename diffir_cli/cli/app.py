"""The Typer application: commands are collected here, faults become lines and exit codes."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

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
from diffir_cli.cli.console import ShownFormatter, print_message, print_text, take_any_text
from diffir_cli.errors import DeviceError, DiffIRError, InputError
from diffir_cli.util.process import prepare_process
from diffir_cli.util.signals import end_in_order
from diffir_cli.util.text import shown
from diffir_cli.version import __version__

INTERRUPTED = 130
"""The exit code of Ctrl-C."""
_PIPE_CLOSED = 141
"""That of programs that write to a closed pipe."""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://.*", re.DOTALL)

_ALIASES = {
    "--model": "--weights",
    "-n": "--weights",
    "--model-path": "--weights",
    "--ckpt": "--weights",
    "--input": "",
    "-i": "",
    "--mask-path": "--mask",
    "--tile-pad": "--tile-overlap",
    "--gpu-id": "--device",
    "-g": "--device",
    "--ext": "--format",
    "--fp32": "--precision=fp32",
    "--half": "--precision=fp16",
    "--no-fresh": "--no-subprocess",
}
"""Names that users of other tools type, and ours; an empty one means a positional argument."""


class _Command(TyperCommand):
    """A command that also takes underscores for hyphens and the names of other tools."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {name for parameter in self.params for name in parameter.opts}
        typed = _canonical(args, known)
        rest = super().parse_args(ctx, list(typed))
        for name, value in ctx.params.items():
            if isinstance(value, Path):
                _check_local(value, typed, (ctx.info_name, name) == ("restore", "source"))
        return rest


class _Group(TyperGroup):
    """Turns a `DiffIRError` from any command into one or two lines and its exit code."""

    def make_context(self, *args: Any, **others: Any) -> Any:
        with _faults():
            return super().make_context(*args, **others)

    def invoke(self, ctx: Any) -> Any:
        with _faults():
            return self._invoke(ctx)

    def _invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DiffIRError as error:
            _print("error", error.message, typer.colors.RED)
            if error.hint:
                _print("hint", error.hint, typer.colors.CYAN)
            raise typer.Exit(error.exit_code) from None
        except MemoryError:
            _print("error", "the machine ran out of memory", typer.colors.RED)
            raise typer.Exit(DeviceError.exit_code) from None
        except RuntimeError as error:
            # By name: torch is not loaded for what does not need it.
            if type(error).__name__ != "OutOfMemoryError":
                raise
            _print("error", "the device ran out of memory", typer.colors.RED)
            raise typer.Exit(DeviceError.exit_code) from None
        except KeyboardInterrupt:
            _print("error", "interrupted", typer.colors.RED)
            raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _faults() -> Iterator[None]:
    """Show what was typed wrongly without obeying it, and end quietly where nobody reads on."""
    try:
        yield
    except BrokenPipeError:
        # Else Python tries again at its end and prints a traceback.
        sys.stdout = None
        raise typer.Exit(_PIPE_CLOSED) from None
    except Exception as error:
        # By what it can do: typer keeps the base of its usage errors to itself.
        message = getattr(error, "message", None)
        if hasattr(error, "format_message") and isinstance(message, str):
            vars(error)["message"] = shown(message)
        raise


app = typer.Typer(
    cls=_Group,
    help="Restore images with DiffIR: super-resolution, deblurring, inpainting.",
    no_args_is_help=True,
    add_completion=False,
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
    app.command(cls=_Command)(_command)


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
            "--version",
            "-V",
            help="Print the version.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    pass


def _check_local(path: Path, typed: list[str], piped: bool) -> None:
    """Refuse a URL where a file is wanted, as it was typed.

    Args:
        path: The value of an argument or option, which has lost a slash.
        typed: All arguments.
        piped: Whether the file may be piped in instead.

    Raises:
        InputError: when it is one.
    """
    values = (word.partition("=")[2] if word.startswith("--") else word for word in typed)
    urls = (_URL.match(value) for value in values)
    url = next((url for url in urls if url and Path(url[0]) == path), None)
    if url is None:
        return
    value, kind = url[0], url[1].lower()
    if kind == "file":
        hint = "write the path without file://"
    elif kind not in ("http", "https"):
        hint = "copy it to this machine, or use diffir batch, which reads and writes object stores"
    elif piped:
        hint = f"curl -sL {shlex.quote(value)} | diffir restore - -o FILE"
    else:
        hint = "name a file on this machine: curl downloads, and uploads what is written"
    raise InputError(f"{value} is a URL, not a file", hint)


def _canonical(args: list[str], known: set[str]) -> list[str]:
    """Arguments with aliases and underscores replaced where the command has the option meant."""
    result: list[str] = []
    for place, arg in enumerate(args):
        if arg == "--":
            return result + args[place:]
        name, equals, value = arg.partition("=")
        if not name.startswith("-") or name in known:
            result.append(arg)
            continue
        if name.startswith("--"):
            name = name.replace("_", "-")
        if name in _ALIASES:
            name = _ALIASES[name]
            if not name:
                result += [value] if equals else []
                continue
        option = name.partition("=")[0]
        result.append(name + equals + value if option in known else arg)
    return result


def _print(kind: str, text: str, colour: str) -> None:
    coloured = sys.stderr is not None and sys.stderr.isatty() and "NO_COLOR" not in os.environ
    styled = typer.style(f"{kind}:", fg=colour, bold=True) if coloured else f"{kind}:"
    print_message(text, f"{styled} ")
