"""One thing that is measured: a network at a size, executed in one way."""

from __future__ import annotations

from dataclasses import dataclass

from diffir_cli.benchmark.subject import Subject
from diffir_cli.models.base import RestorationModel
from diffir_cli.options import Engine, Precision, RunOptions
from diffir_cli.runtime.runner import ModelRunner


@dataclass(frozen=True)
class Variant:
    """How a network is executed."""

    engine: Engine
    precision: Precision
    """One that the device has; never `auto`."""

    def __str__(self) -> str:
        return f"{self.engine.value} {self.precision.value}"


@dataclass(frozen=True)
class Case:
    """A network at a size, executed in one way."""

    subject: Subject
    width: int
    """LQ pixels."""
    height: int
    """LQ pixels."""
    variant: Variant
    device: str
    """As a user names it; never `auto`."""

    def restorer(self, model: RestorationModel | None = None) -> ModelRunner:
        """The network, or one that is built already, ready for a picture.

        Raises:
            DeviceError: when the machine cannot provide device or precision.
            CheckpointError: when its file does not fit.
        """
        model = model or self.subject.build()
        options = RunOptions(self.device, self.variant.precision, self.variant.engine)
        return ModelRunner(model, options)
