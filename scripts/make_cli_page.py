"""Write docs/cli.md from the commands, so that the page and --help cannot disagree.

python scripts/make_cli_page.py
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from diffir_cli.cli.app import app
from diffir_cli.cli.command import NAMES_OF_OTHER_TOOLS, OLD_NAMES
from diffir_cli.cli.panels import panels_of
from diffir_cli.cli.settings_file import FileSettings

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"

_HEAD = """# Commands

This page is generated from the commands by `python scripts/make_cli_page.py`.
`diffir COMMAND --help` prints the same text.

Options are written with hyphens; underscores work too. Names from other tools are accepted:
{aliases}.

Commands that have the new option, and none of the old name, take the old name for one release:
{old_names}.

Options that you always use can stand in `diffir.toml`, in the current folder or in the config
folder (`$DIFFIR_HOME/config`, or that of your system, such as `~/.config/diffir`):

```toml
device = "cpu"
threads = 4
max-memory = "4G"
```

The settings are {settings}.
They apply to all commands with these options; `task` applies to `restore` and `batch` only. Order:
command line, environment variable, `diffir.toml` in the current folder, that in the config folder.

`diffir --install-completion` teaches your shell to complete commands, options and names of weights.

Exit codes: 0 success, 1 other errors, 2 wrong options, 3 images and folders, 4 weights, 5 device
or memory, 6 training recipe, 130 Ctrl-C, 129 SIGHUP, 143 SIGTERM (`batch`, `train` and `ablate`
stop in order and end with 130), 141 if the reader of a pipe has gone.
"""


def make_page() -> str:
    """The whole page as Markdown."""
    group: Any = typer.main.get_command(app)
    others, before = map(_listed, (NAMES_OF_OTHER_TOOLS, OLD_NAMES))
    settings = ", ".join(f"`{field.name.replace('_', '-')}`" for field in fields(FileSettings))
    parts = [_HEAD.format(aliases=others, old_names=before, settings=settings)]
    parts += [_section(name, command) for name, command in group.commands.items()]
    return "\n".join(parts)


def _listed(names: dict[str, str]) -> str:
    return ", ".join(f"`{old}` ({_meaning(new)})" for old, new in names.items())


def _section(name: str, command: Any) -> str:
    shown = [each for each in command.params if not each.hidden]
    arguments = [each for each in shown if not each.opts[0].startswith("-")]
    options = [each for each in shown if each.opts[0].startswith("-")]
    usage = [f"diffir {name}", *(_argument(each) for each in arguments)]
    usage += [f"{each.opts[0]} {_values(each)}" for each in options if _is_required(each)]
    lines = [f"## diffir {name}", "", inspect.cleandoc(command.help or ""), ""]
    lines += ["```console", f"$ {' '.join(usage)} [OPTIONS]", "```", ""]
    if arguments:
        lines += ["| argument | meaning |", "|---|---|"]
        lines += [f"| `{_cell(each.metavar)}` | {_help(each)} |" for each in arguments]
        lines.append("")
    for panel, some in panels_of(options).items():
        lines += [
            f"**{panel}**",
            "",
            "| option | values | default | meaning |",
            "|---|---|---|---|",
        ]
        lines += [*map(_row, some), ""]
    return "\n".join(lines)


def _meaning(alias: str) -> str:
    return f"`{alias}`" if alias else "the input"


def _row(option: Any) -> str:
    flags = ", ".join(f"`{flag}`" for flag in option.opts)
    values = f"`{_cell(_values(option))}`" if _values(option) else ""
    return f"| {flags} | {values} | {_default(option)} | {_help(option)} |"


def _is_required(option: Any) -> bool:
    """Whether a command refuses to run without it, even where Typer does not check that."""
    return option.required or (option.help or "").endswith("Required.")


def _argument(parameter: Any) -> str:
    name = f"{parameter.metavar}..." if parameter.nargs == -1 else str(parameter.metavar)
    return name if parameter.required else f"[{name}]"


def _values(parameter: Any) -> str:
    """What an option takes: its own word, the members of its enumeration, or a kind of number."""
    if parameter.is_flag:
        return ""
    if parameter.metavar:
        return str(parameter.metavar)
    kinds = _kinds(parameter.type_descriptor.annotation)
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, Enum):
            return "|".join(str(member.value) for member in kind)
    if float in kinds:
        return "NUMBER"
    return "N" if int in kinds else "TEXT"


def _kinds(annotation: Any) -> list[Any]:
    """The types in an annotation, without Optional and list."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list):
        return [kind for each in typing.get_args(annotation) for kind in _kinds(each)]
    return [annotation]


def _default(parameter: Any) -> str:
    value = parameter.default
    if parameter.required:
        return "required"
    if parameter.is_flag or value is None or value == "" or not parameter.show_default:
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"


def _help(parameter: Any) -> str:
    text = _cell(parameter.help or "")
    if parameter.envvar:
        text += f" Environment: `{parameter.envvar}`."
    return text


def _cell(text: str) -> str:
    # A bar ends a cell, and braces or asterisks are meant as they stand.
    return re.sub(r"([|*])", r"\\\1", " ".join(text.split()))


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
