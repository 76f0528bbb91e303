"""Libraries that only some features need."""

from __future__ import annotations

from importlib import util

from diffir_cli.errors import MissingLibraryError


def require_extra(extra: str, *modules: str) -> None:
    """Make sure that the libraries of an extra are there, without importing them.

    Args:
        extra: Its name, in brackets behind that of the distribution.
        modules: What it brings.

    Raises:
        MissingLibraryError: when one is missing.
    """
    for module in modules:
        if util.find_spec(module) is None:
            raise MissingLibraryError(
                f"{module} is not installed", f"pip install 'diffir-cli[{extra}]'"
            )
