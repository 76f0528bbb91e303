"""What all commands do alike before they begin: other names, contradictions, panels of help."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperOption

from diffir_cli.cli.conflicts import check_conflicts, is_from_file
from diffir_cli.cli.console import help_to_stdout, set_log_level
from diffir_cli.cli.panels import panels_of
from diffir_cli.cli.settings_file import file_settings
from diffir_cli.cli.urls import refuse_url
from diffir_cli.cli.usage import TyperUsageError
from diffir_cli.errors import DeviceError, DiffIRError, UsageError
from diffir_cli.util.folders import SETTINGS_FILE, settings_files

_log = logging.getLogger(__name__)

NAMES_OF_OTHER_TOOLS = {
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
}
"""Names that users of other tools type; an empty one means a positional argument."""

OLD_NAMES = {
    "--out": "--output",
    "--dir": "--output",
    "--html": "--report",
    "--no-download": "--offline",
    "--no-fresh": "--no-subprocess",
    "--quality": "--scores",
    "--size": "--input-size",
}
"""Names that options had, each for one release, where a command has the new name alone."""

_ALIASES = NAMES_OF_OTHER_TOOLS | OLD_NAMES


class Command(TyperCommand):
    """A command that refuses contradictions, and takes underscores and the names of other tools."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read arguments in which other names are replaced."""
        parameters = self.get_params(ctx)
        known = {
            name: not (option.is_flag or option.count)
            for option in parameters
            if isinstance(option, TyperOption)
            for name in (*option.opts, *option.secondary_opts)
        }
        typed = _canonical(args, known)
        fault = None
        try:
            settings = {} if ctx.resilient_parsing else file_settings(str(ctx.info_name))
        except UsageError as error:
            settings, fault = {}, error
        several = {one.name for one in parameters if getattr(one, "multiple", False)}
        ctx.default_map = {
            name: [value] if name in several else value for name, value in settings.items()
        }
        try:
            with help_to_stdout():
                rest = super().parse_args(ctx, list(typed))
        except TyperUsageError as error:
            # Some do not say which command they belong to.
            vars(error)["ctx"] = ctx
            raise
        # Behind the help, which a broken file is no reason to withhold.
        if fault:
            raise fault
        for name, value in ctx.params.items():
            if isinstance(value, Path):
                refuse_url(value, typed, (ctx.info_name, name) == ("restore", "source"))
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command, if its options fit together."""
        check_conflicts(ctx)
        set_log_level(ctx.params.get("quiet", False), ctx.params.get("verbose", False))
        if ctx.default_map:
            _log.info("settings of %s", ", ".join(map(str, settings_files())))
        try:
            return super().invoke(ctx)
        except DiffIRError as error:
            # Who has typed none of these options looks for them in vain.
            preset = [name for name in ctx.params if is_from_file(ctx, name)]
            if preset and isinstance(error, (UsageError, DeviceError)):
                names = ", ".join(preset).replace("_", "-")
                error.hint = "; ".join(filter(None, [error.hint, f"{SETTINGS_FILE} sets {names}"]))
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of a usage line."""
        shown = [one for one in self.get_params(ctx) if not getattr(one, "hidden", False)]
        pieces = [piece for one in shown for piece in one.get_usage_pieces(ctx)]
        # Typer puts arguments that are required into braces.
        return ["[OPTIONS]", *(re.sub(r"[{}]", "", piece) for piece in pieces)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then options by panels."""
        parameters = self.get_params(ctx)
        arguments = [one for one in parameters if one.param_type_name == "argument"]
        options = [one for one in parameters if one.param_type_name == "option"]
        for title, some in {"Arguments": arguments, **panels_of(options)}.items():
            if records := [record for one in some if (record := one.get_help_record(ctx))]:
                with formatter.section(title):
                    formatter.write_dl([(_bare(name), _in_words(text)) for name, text in records])


def _bare(name: str) -> str:
    """The names of an argument or option without the type that Typer puts behind an argument's."""
    return re.sub(r" <(path|str|list\[.*\])>$", "", name)


def _in_words(text: str) -> str:
    """A help text in which a range is no inequality."""
    text = re.sub(r"([\d.]+)<=x<=([\d.]+)", r"\1 to \2", text)
    return re.sub(r"x>=([\d.]+)", r"at least \1", text)


def _canonical(args: list[str], known: Mapping[str, bool]) -> list[str]:
    """Arguments in which options have the names that the command knows; values stay as they are.

    Args:
        args: What was typed.
        known: Whether an option takes a value, by all names of the command's options.
    """
    result: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            return [*result, word, *words]
        name, equals, value = word.partition("=")
        if name.startswith("--") and name not in known:
            name = name.replace("_", "-")
        alias = _ALIASES.get(name) if name not in known else None
        if alias == "":
            result += [value] if equals else islice(words, 1)
            continue
        renamed = (alias or name) + equals + value
        option = renamed.partition("=")[0]
        result.append(renamed if option in known else word)
        if _wants_value(result[-1], known):
            result += islice(words, 1)
    return result


def _wants_value(word: str, known: Mapping[str, bool]) -> bool:
    """Whether the next word is the value of this one: an option, or letters of several."""
    if word in known:
        return known[word]
    if word.startswith("--") or not word.startswith("-"):
        return False
    # The first letter that takes a value takes the rest of the word, unless it is the last one.
    for place, letter in enumerate(word[1:], 2):
        if known.get(f"-{letter}"):
            return place == len(word)
    return False
