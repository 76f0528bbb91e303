"""`diffir doctor`: try this installation, for a bug report."""

from __future__ import annotations

import typer

from diffir_cli.cli import options
from diffir_cli.cli.talk import print_json
from diffir_cli.errors import DiffIRError


def doctor(json: options.Json = False) -> None:
    """Try this installation: libraries, devices, folders, weights. Paste it into a bug report.

    The exit code is 1 when something failed.
    """
    from diffir_cli.doctor.check import State, as_dict
    from diffir_cli.doctor.examine import examine

    checks = []
    section = ""
    for check in examine():
        checks.append(check)
        if json:
            continue
        if check.section != section:
            section = check.section
            typer.echo(f"{section}:")
        typer.echo(f"  {check.line()}")
    failed = [check for check in checks if check.state is State.FAILED]
    if json:
        print_json(as_dict(checks))
    else:
        names = ", ".join(f"{check.section} {check.name}" for check in failed)
        typer.echo(f"failed: {names}" if failed else "all is well")
    if failed:
        raise typer.Exit(DiffIRError.exit_code)
