"""Image restoration with DiffIR: `Restorer`, `load_model` and the command `diffir`.

Importing this package loads no torch; the names below load it when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffir_cli.version import __version__

if TYPE_CHECKING:
    from diffir_cli.api import Restorer
    from diffir_cli.models.diffir.checkpoint import load_model

__all__ = ["Restorer", "__version__", "load_model"]


def __getattr__(name: str) -> Any:
    if name == "Restorer":
        from diffir_cli.api import Restorer

        return Restorer
    if name == "load_model":
        from diffir_cli.models.diffir.checkpoint import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
