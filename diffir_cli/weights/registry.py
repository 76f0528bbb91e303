"""The registry `weights.toml` as typed values, and how a name is found in it."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import os
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from diffir_cli.errors import WeightsError
from diffir_cli.models.families import DEFAULT_FAMILY, config_of, teachers_of
from diffir_cli.options import Task
from diffir_cli.util.files import file_errors
from diffir_cli.util.tables import parse_table

_PACKAGE = Path(__file__).parents[1]
EMBEDDED = Path(__file__).parent / "embedded"
"""Where the embedded weights lie."""


@dataclass(frozen=True)
class WeightSpec:
    """One entry of the registry."""

    name: str
    """Lower case with hyphens, such as `sr-x4-lite`."""
    task: Task
    """What it restores."""
    scale: int
    """Side of the output over side of the input."""
    summary: str
    """One line for a listing."""
    license: str
    """SPDX name of the weights' licence, or what is known of it."""
    source: str
    """The page that the weights come from."""
    file: str
    """Name of the file."""
    model: Any
    """The configuration of its network, of a class of its family's."""
    family: str = DEFAULT_FAMILY
    """Which family of networks it is of."""
    size: int = 0
    """Bytes; 0 where they are not known."""
    sha256: str = "unpinned"
    """Hash of the file, or `unpinned` where it is not known."""
    urls: tuple[str, ...] = ()
    """Where the file can be had; empty where only the page is known."""
    embedded: bool = False
    """Whether the file is part of this package."""
    accept: bool = False
    """Whether a user has to agree to the licence first."""
    registry: str = ""
    """The user's registry that it stands in; empty for ours."""
    owner: str = ""
    """The entry whose file this is; empty for an entry of the registry itself."""
    component: str = "model"
    """Which part of a network the file holds, or which kind of network that only teaches."""
    files: tuple[WeightSpec, ...] = ()
    """An entry for each file of a network that consists of several; empty for one of one file.
    Such an entry is named after its file, so that entries which share a file share its copy."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """How this project trained them: recipe, photos, minutes, hardware, scores."""

    @property
    def parts(self) -> tuple[WeightSpec, ...]:
        """An entry for each file: `files`, or the entry itself."""
        return self.files or (self,)

    @property
    def teaches(self) -> bool:
        """Whether it is of use for training only, as networks that see the ground truth are."""
        return self.component in teachers_of(self.family)

    @property
    def links(self) -> tuple[str, ...]:
        """The addresses that other programs can use."""
        return tuple(url for url in self.urls if url.startswith("http"))

    @property
    def label(self) -> str:
        """What messages call it: its name, or that of its file and the entry that it belongs to."""
        return f"{self.file} of {self.owner}" if self.owner else self.name

    @property
    def command(self) -> str:
        """What to type to have anything done with these weights."""
        own = f" --registry {shlex.quote(self.registry)}" if self.registry else ""
        return f"diffir download-weights {self.owner or self.name}{own}"

    @property
    def path(self) -> Path:
        """Where an embedded file lies."""
        return EMBEDDED / self.file


def read_registry(extra: Path | None = None) -> Mapping[str, WeightSpec]:
    """Every entry by name, in the order of the file, and then those of the user's own registry.

    An installed package holds a copy of the file; in a checkout it is read from the top folder.

    Args:
        extra: The user's registry, whose entries come before those of the same name; None for that
            of `DIFFIR_REGISTRY`.

    Raises:
        WeightsError: when the user's registry cannot be read or has faults.
    """
    own = _own_entries()
    if extra is None and os.environ.get("DIFFIR_REGISTRY"):
        extra = Path(os.environ["DIFFIR_REGISTRY"])
    return own if extra is None else {**own, **_user_entries(extra)}


@cache
def _own_entries() -> Mapping[str, WeightSpec]:
    packaged = _PACKAGE / "weights.toml"
    path = packaged if packaged.exists() else _PACKAGE.parent / "weights.toml"
    entries = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: _parse(name, entry) for name, entry in entries.items()}


def _user_entries(path: Path) -> dict[str, WeightSpec]:
    try:
        with file_errors(f"cannot read the registry {path}", "look at --registry", WeightsError):
            entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"the registry {path} is not valid TOML: {error}", "fix it") from error
    found = {}
    for name, entry in entries.items():
        try:
            found[name] = _parse(name, entry, str(path))
            for part in (found[name], *found[name].files):
                _check_entry(part)
        except ValueError as error:
            raise WeightsError(
                f"the entry [{name}] of the registry {path} has a fault: {error}",
                "compare it with those of weights.toml",
            ) from error
    return found


def _check_entry(spec: WeightSpec) -> None:
    """Refuse what must never become a path, a request or a promise.

    Raises:
        ValueError: when anything of the kind is there.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,99}", spec.name) or _is_reserved(spec.name):
        raise ValueError("its name must be of a-z, 0-9, hyphens, dots and underscores")
    bare = re.fullmatch(r"[\w][\w .()+,-]*", spec.file) and len(spec.file.encode()) <= _LONGEST
    if not spec.files and (not bare or _is_reserved(spec.file)):
        raise ValueError(f"its file must be a bare name, not {spec.file!r}")
    if spec.sha256 != "unpinned" and not re.fullmatch(r"[0-9a-f]{64}", spec.sha256):
        raise ValueError("its sha256 must be 64 digits of 0-9a-f, or unpinned")
    if spec.embedded:
        raise ValueError("only the package has embedded weights")
    if spec.size < 0:
        raise ValueError("its size must not be negative")
    for url in spec.urls:
        if not re.match(r"https?:|gdrive:|gdrive-folder:[\w-]+/.", url):
            raise ValueError(
                "its URLs must begin with https:, http:, gdrive: or gdrive-folder:ID/NAME, unlike "
                f"{url!r}"
            )
    if spec.scale != spec.model.scale:
        raise ValueError(f"its scale {spec.scale} is not that of its model, {spec.model.scale}")


_LONGEST = 200
"""Bytes of a file's name, which leaves room for what is put behind it meanwhile."""


def _is_reserved(name: str) -> bool:
    """Whether a name stands for something else on some system."""
    device = re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d", name.split(".", 1)[0].lower())
    return bool(device) or name.endswith((".", " "))


def find_weights(name: str, extra: Path | None = None) -> WeightSpec:
    """The entry of a name.

    Raises:
        WeightsError: when there is none, with the nearest name as a hint.
    """
    registry = read_registry(extra)
    if name in registry:
        return registry[name]
    near = difflib.get_close_matches(name.lower(), registry, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(registry)}"
    raise WeightsError(f"no weights named {name!r}", hint)


def default_weights(task: Task, scale: int | None = None, extra: Path | None = None) -> WeightSpec:
    """The entry that a task is done with unless another is named: an embedded one if there is one.

    Args:
        task: What is wrong with the picture.
        scale: Of the network; None for any.
        extra: The user's own registry; None for that of the environment.

    Raises:
        WeightsError: when there is no such entry.
    """
    entries = {**_own_entries(), **read_registry(extra)} if scale else _own_entries()
    known = [spec for spec in entries.values() if spec.task is task and not spec.teaches]
    fitting = [spec for spec in known if scale in (None, spec.scale)]
    if fitting:
        return min(fitting, key=lambda spec: not spec.embedded)
    scales = sorted({spec.scale for spec in known})
    raise WeightsError(
        f"no weights for task {task.value!r} have the scale {scale}",
        "use "
        + " or ".join(f"--scale {one}" for one in scales)
        + f"; --outscale {scale} resizes the result to that size",
    )


def _parse(name: str, entry: Any, registry: str = "") -> WeightSpec:
    """An entry of a registry.

    Raises:
        ValueError: with what is wrong with it.
    """
    if not isinstance(entry, dict):
        raise ValueError("it is no table")
    tables = entry.get("files", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError("its files must be tables")
    plain = {key: value for key, value in entry.items() if key not in _TABLES}
    fields, faults = parse_table(WeightSpec, plain, _NOT_IN_ENTRIES)
    faults += _lacking(entry, _NEEDED if tables else (*_NEEDED, "file"))
    family = fields.get("family", DEFAULT_FAMILY)
    try:
        model = config_of(family, entry.get("model", {}))
    except ValueError as error:
        faults.append(f"model: {error}")
    if faults:
        raise ValueError("; ".join(faults))
    if tables:
        if "file" in entry:
            raise ValueError("it has both a file and files")
        if sorted(str(table.get("component")) for table in tables) != sorted(model.components):
            parts = ", ".join(model.components)
            raise ValueError(f"its files must be one for each component: {parts}")
    elif len(model.components) > 1:
        raise ValueError(f"this network of family {family!r} needs files")
    component = fields.setdefault("component", model.components[0])
    if component not in (model.components[0], *teachers_of(family)):
        raise ValueError(f"a file of family {family!r} alone is no {component!r}")
    training = entry.get("training", {})
    spec = WeightSpec(
        name=name, model=model, registry=registry, training=training, **{"file": "", **fields}
    )
    if not tables:
        return spec
    files = tuple(_parse_file(spec, table) for table in tables)
    sizes = [part.size for part in files]
    return dataclasses.replace(spec, files=files, size=sum(sizes) if all(sizes) else 0)


def _parse_file(spec: WeightSpec, table: Mapping[str, Any]) -> WeightSpec:
    """The entry of one file of a network that consists of several.

    Raises:
        ValueError: with what is wrong with it.
    """
    fields, faults = parse_table(WeightSpec, table, _NOT_IN_FILES)
    if faults := [*faults, *_lacking(table, ("file",))]:
        raise ValueError("in its files " + "; ".join(faults))
    file, urls = Path(fields["file"]), fields.get("urls", ())
    # What tells one file from another: its hash, or where it comes from until that is known.
    identity = fields.setdefault("sha256", "unpinned")
    if identity == "unpinned":
        identity = hashlib.sha256(" ".join(urls).encode()).hexdigest()
    stem = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-") or "file"
    own = {"size": 0, "urls": (), **fields}
    return dataclasses.replace(spec, name=f"{stem[:60]}-{identity[:8]}", owner=spec.name, **own)


def _lacking(table: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    return [f"it lacks {name!r}" for name in names if name not in table]


_NEEDED = ("task", "scale", "summary", "license", "source", "model")
_TABLES = {"model", "files", "training"}
_NOT_IN_ENTRIES = {"name", "registry", "owner"}
_OF_FILES = {"component", "file", "size", "sha256", "urls", "source", "license"}
_NOT_IN_FILES = {one.name for one in dataclasses.fields(WeightSpec)} - _OF_FILES
