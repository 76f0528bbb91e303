"""How results are called: a template, and what to do where two of them would have one name."""

from __future__ import annotations

import re
import shlex
import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from diffir_cli.batch.find import Found
from diffir_cli.batch.stores import is_remote, real_path
from diffir_cli.errors import InputError, UsageError
from diffir_cli.imaging.formats import Format, format_like, format_of
from diffir_cli.options import Task

_FIELDS = ("reldir", "parent", "stem", "ext", "index", "task", "scale", "weights")


@dataclass(frozen=True)
class Naming:
    """How results are called and written."""

    template: str
    """With fields in braces; without `{reldir}` the tree is kept in front."""
    task: Task
    """For `{task}`."""
    weights: str
    """For `{weights}`."""
    scale: float
    """For `{scale}`: side of the result over that of the source."""
    format: str | None = None
    """An ending; None for that of the source where it can be written."""
    quality: int | None = None
    """Of lossy formats."""
    lossless: bool = False
    """Whether formats that can lose nothing do so."""

    def name(self, item: Found) -> str:
        """Path of a result below its folder, without ending.

        Raises:
            UsageError: when it would lie outside.
        """
        parent = item.below.parent
        folder = item.path.parent if is_remote(item.path) else real_path(item.path.parent)
        values = {
            "reldir": "" if str(parent) == "." else str(parent),
            "parent": folder.name,
            "stem": item.path.stem,
            "ext": item.path.suffix[1:].lower(),
            "index": item.index,
            "task": self.task.value,
            "scale": f"{self.scale:g}",
            # Names in the registry may contain dots.
            "weights": _WEIGHTS_ENDING.sub("", Path(self.weights).name),
        }
        name = self.template.format(**values)
        path = PurePosixPath(name.lstrip("/"))
        if "{reldir}" not in self.template:
            path = parent / path
        if ".." in path.parts or not path.name:
            raise UsageError(
                f"--name {self.template!r} points outside the output folder: {name!r}",
                "leave .. out",
            )
        return str(path)

    def name_unprobed(self, item: Found) -> str:
        """The same with its ending, from the source's name alone."""
        ending = "." + self.format.removeprefix(".") if self.format else item.path.suffix
        return self.name(item) + ending.lower()

    def chosen_format(self) -> Format | None:
        """The format of all results; None for that of each source.

        Raises:
            UsageError: when there is no such format.
            MissingLibraryError: when its library is missing.
        """
        return format_of(Path("results"), self.format) if self.format else None

    def holds_alpha(self, kind: str) -> bool:
        """Whether the result of a file of a format, as Pillow calls it, can be transparent."""
        return (self.chosen_format() or format_like(kind)).alpha


_WEIGHTS_ENDING = re.compile(r"\.(safetensors|pth|pt|ckpt|bin)$", re.IGNORECASE)
_FORMAT = re.compile(r"0?\d{0,3}d?", re.ASCII)


def check_template(template: str) -> None:
    """Refuse a template with fields that do not exist.

    Raises:
        UsageError: when it has one.
    """
    try:
        parsed = list(string.Formatter().parse(template))
        names = [name for _, name, _, _ in parsed if name is not None]
    except ValueError as error:
        raise UsageError(
            f"--name {template!r} is not a valid template: {error}", "write {{ for a brace itself"
        ) from error
    for name in names:
        if name not in _FIELDS:
            known = ", ".join(f"{{{field}}}" for field in _FIELDS)
            raise UsageError(f"--name has no field {{{name}}}", f"use {known}")
    try:
        # A wide one would take all memory.
        if any(not _FORMAT.fullmatch(spec or "") for _, _, spec, _ in parsed):
            raise ValueError("only a width such as 04 can stand behind a colon")
        template.format(**{**dict.fromkeys(_FIELDS, "x"), "index": 1})
    except (ValueError, LookupError, AttributeError) as error:
        raise UsageError(
            f"--name {template!r} is not a valid template: {error}", "leave : and ! out of fields"
        ) from error


def check_collisions(named: Sequence[tuple[Found, str]], naming: Naming, folder: Path) -> None:
    """Refuse two results of one name.

    Args:
        named: Sources, and their results below the folder.
        naming: How they got these names.
        folder: Where they go.

    Raises:
        InputError: when there are two, with a template that tells all of them apart.
    """
    found = _collision(named)
    if found is None:
        return
    first, second, output = found
    endings = [(item, PurePosixPath(path).suffix) for item, path in named]
    template = naming.template
    others = (f"{template}_{{ext}}", f"{{parent}}_{template}", f"{template}_{{index}}")
    for other in others:
        renamed = replace(naming, template=other)
        if _collision([(item, renamed.name(item) + ending) for item, ending in endings]) is None:
            break
    raise InputError(
        f"{first.path} and {second.path} would both become {folder / output}",
        f"name the results by --name {shlex.quote(other)} instead",
    )


def _collision(named: Sequence[tuple[Found, str]]) -> tuple[Found, Found, str] | None:
    """Two sources of one result, as file systems that ignore case or accents' forms see it."""
    taken: dict[str, Found] = {}
    for item, output in named:
        other = taken.setdefault(unicodedata.normalize("NFC", output).casefold(), item)
        if other is not item:
            return other, item, output
    return None
