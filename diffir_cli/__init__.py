"""Image restoration with DiffIR: `load_restorer`, `Restorer`, `load_model`, the command `diffir`.

Importing this package loads no torch; the names below load it when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffir_cli.version import __version__

if TYPE_CHECKING:
    from diffir_cli.checkpoint import load_model
    from diffir_cli.engine import Restorer, load_restorer

__all__ = ["Restorer", "__version__", "load_model", "load_restorer"]


def __getattr__(name: str) -> Any:
    if name in ("Restorer", "load_restorer"):
        from diffir_cli import engine

        return getattr(engine, name)
    if name == "load_model":
        from diffir_cli.checkpoint import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
