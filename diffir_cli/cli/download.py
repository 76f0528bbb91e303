"""`diffir download-weights`: checkpoints onto this machine, and in what state they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffir_cli.cli import options
from diffir_cli.cli.talk import be_quiet, print_json, print_table, say
from diffir_cli.cli.weights import fetched
from diffir_cli.config import Task

if TYPE_CHECKING:
    from diffir_cli.downloads.cache import State
    from diffir_cli.registry import WeightSpec

FAILED = 4
"""The exit code for weights that could not be had or are damaged."""

Names = Annotated[
    list[str] | None, typer.Argument(metavar="NAME...", help="Weights of the registry.")
]
OfTask = Annotated[
    Task | None, typer.Option("--task", help="All weights of a task.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="All weights of the registry.")]
List = Annotated[bool, typer.Option("--list", help="Say what there is, and what is here.")]
Verify = Annotated[bool, typer.Option("--verify", help="Read and hash what is here.")]
PrintUrls = Annotated[bool, typer.Option("--print-urls", help="Print the links, and stop.")]
Remove = Annotated[bool, typer.Option("--remove", help="Remove the named weights from here.")]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="FILE",
        help="Install a checkpoint that was downloaded by hand, as safetensors.",
        show_default=False,
    ),
]
Dir = Annotated[
    Path | None,
    typer.Option(
        "--dir", metavar="DIR", help="Put the files there, not into the cache.", show_default=False
    ),
]
AcceptLicense = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-license",
        metavar="NAME",
        help="Agree to the licence of weights that ask for it.",
        show_default=False,
    ),
]


def download_weights(
    names: Names = None,
    task: OfTask = None,
    everything: All = False,
    listing: List = False,
    verify: Verify = False,
    print_urls: PrintUrls = False,
    remove: Remove = False,
    source: From = None,
    folder: Dir = None,
    accept: AcceptLicense = None,
    registry: options.Registry = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not use the network.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Download weights, and look after those that are here."""
    be_quiet(quiet)
    _check(names, task, everything, folder, _chosen(listing, verify, print_urls, remove, source))
    from diffir_cli.downloads.decisions import accept_license
    from diffir_cli.registry import find_weights, read_registry

    for name in accept or []:
        accept_license(name, find_weights(name, registry).license)
    if source:
        _import(source, names, registry, json, quiet)
        return
    known = read_registry(registry).values()
    specs = [find_weights(name, registry) for name in names or []]
    specs += [spec for spec in known if spec.task is task and spec not in specs]
    if everything or ((listing or verify or print_urls) and not specs):
        specs = list(known)
    if print_urls:
        for spec in specs:
            for url in spec.urls or [spec.source]:
                typer.echo(url)
    elif remove:
        _remove(specs, json, quiet)
    elif listing or verify:
        _show(specs, verify, json)
    else:
        _download(specs, folder, offline, json, quiet)


def _chosen(
    listing: bool, verify: bool, print_urls: bool, remove: bool, source: Path | None
) -> list[str]:
    """What is asked for beside downloading."""
    wishes = {
        "--list or --verify": listing or verify,
        "--print-urls": print_urls,
        "--remove": remove,
        "--from": source is not None,
    }
    return [name for name, wished in wishes.items() if wished]


def _check(
    names: list[str] | None,
    task: Task | None,
    everything: bool,
    folder: Path | None,
    wishes: list[str],
) -> None:
    if len(wishes) > 1:
        raise typer.BadParameter(f"give {wishes[0]} or {wishes[1]}, not both")
    if everything and (names or task):
        raise typer.BadParameter("--all needs no names and no --task")
    if folder and wishes:
        raise typer.BadParameter(f"--dir has no effect with {wishes[0]}")
    some = bool(names or task or everything)
    if not some and not wishes:
        raise typer.BadParameter("name weights, or give --task, --all or --list")
    if wishes == ["--remove"] and not some:
        raise typer.BadParameter("--remove needs names")
    if wishes == ["--from"] and (task or everything or len(names or []) > 1):
        raise typer.BadParameter("--from takes one name at most")


def _import(
    source: Path, names: list[str] | None, registry: Path | None, json: bool, quiet: bool
) -> None:
    from diffir_cli.downloads.obtain import import_weights, recognise
    from diffir_cli.registry import find_weights

    spec = find_weights(names[0], registry) if names else recognise(source, registry)
    path = import_weights(source, spec)
    if json:
        print_json({"name": spec.name, "path": str(path)})
    elif not quiet:
        say(f"{source} is {spec.name}, and is installed as {path}")


def _remove(specs: Sequence[WeightSpec], json: bool, quiet: bool) -> None:
    from diffir_cli.downloads.cache import remove_installed

    for spec in specs:
        freed = remove_installed(spec)
        if json:
            print_json({"name": spec.name, "freed_bytes": freed})
        elif not quiet:
            say(f"{spec.name} is removed, {freed / 2**20:.1f} MiB are free again")


def _show(specs: Sequence[WeightSpec], verify: bool, json: bool) -> None:
    from diffir_cli.downloads.cache import State, state_of

    states = [(spec, state_of(spec, verify)) for spec in specs]
    if json:
        print_json({"weights": [_as_json(spec, state) for spec, state in states]})
    else:
        rows = [
            [
                spec.name,
                spec.task.value,
                f"×{spec.scale}",
                f"{spec.size / 2**20:.1f} MiB" if spec.size else "?",
                spec.license,
                state.value,
                _path(spec),
            ]
            for spec, state in states
        ]
        header = ["name", "task", "scale", "size", "licence", "state", "path or page"]
        print_table(header, rows, numbers=False)
    if damaged := [spec.name for spec, state in states if state is State.CORRUPT]:
        say(f"damaged: {', '.join(damaged)}; diffir download-weights --remove {damaged[0]}")
        raise typer.Exit(FAILED)


def _path(spec: WeightSpec) -> str:
    """Where the file lies, or else where it can be had."""
    from diffir_cli.downloads.cache import find_installed

    found = find_installed(spec)
    return str(found.path) if found else (spec.urls[0] if spec.urls else spec.source)


def _as_json(spec: WeightSpec, state: State) -> dict[str, Any]:
    from diffir_cli.downloads.cache import find_installed

    found = find_installed(spec)
    return {
        "name": spec.name,
        "task": spec.task.value,
        "scale": spec.scale,
        "summary": spec.summary,
        "size": spec.size or None,
        "sha256": spec.sha256,
        "license": spec.license,
        "needs_acceptance": spec.accept,
        "source": spec.source,
        "urls": list(spec.urls),
        "state": state.value,
        "path": str(found.path) if found else None,
    }


def _download(
    specs: Sequence[WeightSpec], folder: Path | None, offline: bool, json: bool, quiet: bool
) -> None:
    from diffir_cli.errors import WeightsError

    faults = []
    for spec in specs:
        try:
            path = fetched(spec, offline=offline, silent=quiet or json, folder=folder)
        except WeightsError as error:
            # One that cannot be had is no reason to leave out the others.
            if len(specs) == 1:
                raise
            faults.append(error)
            say(f"error: {error.message}")
            if json:
                print_json({"name": spec.name, "error": error.message, "hint": error.hint})
            continue
        if json:
            print_json({"name": spec.name, "path": str(path)})
        elif not quiet:
            part = " (part of this package)" if spec.embedded and folder is None else ""
            say(f"{spec.name}: {path}{part}")
    if faults:
        say(f"{len(faults)} of {len(specs)} could not be had")
        raise typer.Exit(FAILED)
