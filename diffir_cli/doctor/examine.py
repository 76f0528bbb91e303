"""Everything that is tried, in the order in which it is told."""

from __future__ import annotations

from collections.abc import Iterator

from diffir_cli.doctor.check import Check
from diffir_cli.doctor.surroundings import (
    check_extras,
    check_folders,
    check_system,
    check_versions,
)
from diffir_cli.doctor.trials import check_devices, check_weights


def examine() -> Iterator[Check]:
    """Try everything, one thing after another."""
    yield from check_versions()
    yield from check_system()
    yield from check_extras()
    yield from check_devices()
    yield from check_folders()
    yield from check_weights()
