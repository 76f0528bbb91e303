"""All checks, in the order of the report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from diffir_cli.doctor.check import Check
from diffir_cli.doctor.checks import check_devices, check_weights
from diffir_cli.doctor.environment import check_extras, check_folders, check_system, check_versions


def run_checks(registry: Path | None = None) -> Iterator[Check]:
    """Run every check, one after another.

    Args:
        registry: The user's own registry; None for that of the environment.
    """
    yield from check_versions()
    yield from check_system()
    yield from check_extras()
    yield from check_devices()
    yield from check_folders()
    yield from check_weights(registry)
