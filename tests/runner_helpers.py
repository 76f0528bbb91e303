"""Networks of tests as the package runs them."""

from __future__ import annotations

from typing import Any

from diffir_cli.models.diffir.model import DiffIRModel
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.options import RunOptions
from diffir_cli.runtime.runner import ModelRunner


def runner_of(network: DiffIRS1 | DiffIRS2, *args: Any, **kwargs: Any) -> ModelRunner:
    """A plain network on a device; arguments as those of `RunOptions`."""
    return ModelRunner(DiffIRModel(network.eval()), RunOptions(*args, **kwargs))
