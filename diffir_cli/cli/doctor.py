"""`diffir doctor`: try this installation, for a bug report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from diffir_cli.cli import options
from diffir_cli.cli.console import print_json, print_text, stdout_to_stderr
from diffir_cli.errors import DiffIRError

if TYPE_CHECKING:
    from diffir_cli.doctor.check import Check


def doctor(
    registry: options.Registry = None, json: options.Json = False, quiet: options.Quiet = False
) -> None:
    """Check this installation.

    Libraries, devices, folders and weights are tried.

    Paste the output into a bug report. The exit code is 1 if a check failed.
    """
    from diffir_cli.doctor.check import as_dict, failures
    from diffir_cli.doctor.run_checks import run_checks

    if json:
        with stdout_to_stderr():
            checks = list(run_checks(registry))
        print_json(as_dict(checks))
    else:
        checks = _report(run_checks(registry), quiet)
    failed = failures(checks)
    if not json and (failed or not quiet):
        names = ", ".join(f"{check.section} {check.name}" for check in failed)
        print_text(f"failed: {names}" if failed else "all checks passed")
    if failed:
        raise typer.Exit(DiffIRError.exit_code)


def _report(found: Iterable[Check], quiet: bool) -> list[Check]:
    """Print each check as soon as it is done, or only those that failed."""
    from diffir_cli.doctor.check import failures

    checks = []
    section = ""
    for check in found:
        checks.append(check)
        if quiet and not failures([check]):
            continue
        if check.section != section:
            section = check.section
            print_text(f"{section}:")
        print_text(f"  {check.line()}")
    return checks
