"""The Typer application: commands are collected here, faults become lines and exit codes."""

from __future__ import annotations

import logging
import os
import sys
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
from diffir_cli.cli.console import print_message, take_any_text
from diffir_cli.errors import DeviceError, DiffIRError
from diffir_cli.util.process import prepare_process
from diffir_cli.version import __version__

INTERRUPTED = 130
"""The exit code of Ctrl-C."""

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
        return super().parse_args(ctx, _canonical(args, known))


class _Group(TyperGroup):
    """Turns a `DiffIRError` from any command into one or two lines and its exit code."""

    def invoke(self, ctx: Any) -> Any:
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
    print_message(f"{styled} {text}")
