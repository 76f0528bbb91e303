"""`diffir download-weights`: checkpoints onto this machine, and in what state they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from diffir_cli.cli import download_options, options
from diffir_cli.cli.console import (
    print_json,
    print_message,
    print_result,
    print_table,
    print_text,
)
from diffir_cli.cli.weights import agrees, fetched
from diffir_cli.errors import WeightsError

if TYPE_CHECKING:
    from diffir_cli.weights.cache import State
    from diffir_cli.weights.registry import WeightSpec


def download_weights(
    context: typer.Context,
    names: download_options.Names = None,
    task: download_options.OfTask = None,
    everything: download_options.All = False,
    listing: download_options.List = False,
    verify: download_options.Verify = False,
    print_urls: download_options.PrintUrls = False,
    remove: download_options.Remove = False,
    source: download_options.From = None,
    output: download_options.Folder = None,
    accept: download_options.AcceptLicense = None,
    registry: options.Registry = None,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Download, list, verify, import and remove weights."""
    download_options.check_options(context)
    from diffir_cli.weights.policy import accept_license
    from diffir_cli.weights.registry import find_weights, read_registry

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
        _print_urls(specs, json)
    elif remove:
        # Of a group, what is there.
        _remove(specs if names else _removable(specs), registry, json, quiet)
    elif listing or verify:
        _show(specs, verify, json, quiet, named=bool(names))
    else:
        _download(specs, output, offline, json, quiet)


def _import(
    source: Path, names: list[str] | None, registry: Path | None, json: bool, quiet: bool
) -> None:
    from diffir_cli.weights.download import DownloadPolicy
    from diffir_cli.weights.imports import import_weights, recognise
    from diffir_cli.weights.registry import find_weights

    spec = find_weights(names[0], registry) if names else recognise(source, registry)
    path = import_weights(source, spec, DownloadPolicy(agree=agrees))
    text = f"{source} is {spec.name}, and is installed as {path}"
    print_result(json, quiet, {"name": spec.name, "path": str(path)}, text)


def _print_urls(specs: Sequence[WeightSpec], json: bool) -> None:
    """Links for other programs; what has none is said beside them."""
    for spec in specs:
        if json:
            urls = [url for part in spec.parts for url in part.urls]
            print_json({"name": spec.name, "urls": urls, "source": spec.source})
            continue
        for url in [url for part in spec.parts for url in part.links]:
            print_text(url)
        if not spec.embedded and not all(part.links for part in spec.parts):
            print_message(f"{spec.name} has no direct link: {spec.source}")


def _removable(specs: Sequence[WeightSpec]) -> list[WeightSpec]:
    from diffir_cli.weights.cache import weights_folder

    return [
        spec
        for spec in specs
        if not spec.embedded and any(weights_folder(part).exists() for part in spec.parts)
    ]


def _remove(specs: Sequence[WeightSpec], registry: Path | None, json: bool, quiet: bool) -> None:
    from diffir_cli.weights.cache import remove_installed

    def remove(spec: WeightSpec) -> None:
        freed = sum(remove_installed(part) for part in _own_parts(spec, registry))
        text = f"{spec.name} is removed, {freed / 2**20:.1f} MiB are free again"
        print_result(json, quiet, {"name": spec.name, "freed_bytes": freed}, text)

    _each(specs, remove, json)


def _own_parts(spec: WeightSpec, registry: Path | None) -> list[WeightSpec]:
    """The files of an entry that no other entry on this machine shares."""
    from diffir_cli.weights.cache import State, state_of, weights_folder
    from diffir_cli.weights.registry import read_registry

    if not spec.files:
        return [spec]
    others = [
        other
        for other in read_registry(registry).values()
        if other.name != spec.name and other.files and state_of(other) is not State.MISSING
    ]
    shared = {part.name for other in others for part in other.files}
    own = [part for part in spec.files if part.name not in shared]
    # Where nothing is there at all, the first says so.
    return [part for part in own if weights_folder(part).exists()] or own[:1]


def _each(specs: Sequence[WeightSpec], do: Callable[[WeightSpec], None], json: bool) -> None:
    """Do something with each, since one that fails is no reason to leave out the others."""
    failed = 0
    for spec in specs:
        try:
            do(spec)
        except WeightsError as error:
            failed += 1
            if json:
                print_json({"name": spec.name, "error": error.message, "hint": error.hint})
            if len(specs) == 1:
                raise
            print_message(f"error: {error.message}")
    if failed:
        print_message(
            f"{failed} of {len(specs)} failed; run the command for one name to see what to do"
        )
        raise typer.Exit(WeightsError.exit_code)


def _show(specs: Sequence[WeightSpec], verify: bool, json: bool, quiet: bool, named: bool) -> None:
    from diffir_cli.weights.cache import State, remedy, state_of

    states = [(spec, state_of(spec, verify)) for spec in specs]
    if json:
        print_json({"weights": [_as_json(spec, state) for spec, state in states]})
    elif not quiet:
        rows = [
            [
                spec.name,
                spec.task.value,
                f"×{spec.scale}",
                f"{spec.size / 2**20:.1f} MiB" if spec.size else "?",
                state.value,
                spec.license,
            ]
            for spec, state in states
        ]
        header = ["name", "task", "scale", "size", "state", "licence"]
        print_table(header, rows, numbers=False)
        # On lines of their own, where they can be read and copied whatever the terminal's width.
        for spec, _ in states:
            print_text(f"{spec.name}: {_path(spec)}")
    damaged = [spec for spec, state in states if state is State.CORRUPT]
    missing = [spec for spec, state in states if verify and named and state is State.MISSING]
    for spec in damaged:
        again = "install diffir-cli again" if spec.embedded else remedy(spec)
        print_message(f"damaged: {spec.name}; {again}")
    for spec in missing:
        print_message(f"not on this machine: {spec.name}")
    if damaged or missing:
        raise typer.Exit(WeightsError.exit_code)


def _path(spec: WeightSpec) -> str:
    """Where the files lie, or else where they can be had."""
    from diffir_cli.weights.cache import find_installed

    places = []
    for part in spec.parts:
        found = find_installed(part)
        places.append(str(found.path) if found else next(iter(part.links), part.source))
    return ", ".join(places)


def _as_json(spec: WeightSpec, state: State) -> dict[str, Any]:
    from diffir_cli.weights.cache import find_installed

    found = [find_installed(part) for part in spec.parts]
    return {
        "name": spec.name,
        "family": spec.family,
        "task": spec.task.value,
        "scale": spec.scale,
        "summary": spec.summary,
        "size": spec.size or None,
        "sha256": spec.sha256,
        "license": spec.license,
        "needs_acceptance": spec.accept,
        "source": spec.source,
        "urls": [url for part in spec.parts for url in part.urls],
        "state": state.value,
        "path": str(found[0].path) if found[0] else None,
        "paths": [str(one.path) for one in found if one],
    }


def _download(
    specs: Sequence[WeightSpec], folder: Path | None, offline: bool, json: bool, quiet: bool
) -> None:
    def download(spec: WeightSpec) -> None:
        for path in fetched(spec, offline=offline, silent=quiet or json, folder=folder):
            where = " (part of this package)" if spec.embedded and folder is None else ""
            found = {"name": spec.name, "path": str(path)}
            print_result(json, quiet, found, f"{spec.name}: {path}{where}")

    _each(specs, download, json)
