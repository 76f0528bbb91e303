"""What a family of networks is to the rest of the package: the only thing it knows of networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from diffir_cli.errors import CheckpointError
from diffir_cli.models.cost import Cost, ModulePart
from diffir_cli.models.progress import Progress
from diffir_cli.options import Engine, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Tiling:
    """What a network wants of tiles, in LQ pixels."""

    tile: int = 0
    """Side of the tiles it was made for; 0 where the whole image is better."""
    step: int = 1
    """What the place of a tile is a multiple of; it divides `multiple`."""


@dataclass(frozen=True)
class ModelInfo:
    """What the rest of the package may ask of a network."""

    family: str
    """Name of the family, such as `diffir`."""
    tasks: frozenset[Task]
    """What the network can be for."""
    scale: int
    """Side of the output over side of the input."""
    multiple: int
    """What the side of a tile is a multiple of, in LQ pixels."""
    takes_mask: bool = False
    """Whether it fills the holes of a mask."""
    needs_truth: bool = False
    """Whether it sees the ground truth: a network that teaches another one."""
    channels: int = 3
    """Channels of what windows are cut from, which counts for memory."""
    tiling: Tiling = Tiling()
    """What it wants of tiles."""
    latent: bool = False
    """Whether it restores in the latent space of an autoencoder, which shifts colours."""
    rounds: bool = True
    """Whether levels are rounded to the nearest, half to even; else they are truncated."""
    aligned: int = 0
    """Side of the square crops, such as aligned faces, that it was made for; 0 for any picture."""
    uncounted: str = ""
    """What of its work is no part of its Mult-Adds."""
    engines: frozenset[Engine] = frozenset({Engine.STREAMING, Engine.REFERENCE})
    """How it can be executed."""
    context_share: float = 0.0
    """Of the time that an image takes, about how much its context takes."""


@dataclass(frozen=True)
class Window:
    """A part of an image, in LQ pixels from its top left corner."""

    left: int
    top: int
    width: int
    height: int


class Context(Protocol):
    """What a network knows of the whole image before it restores windows of it."""

    @property
    def lq(self) -> Tensor:
        """(1, C, H, W), padded and on the network's device: what windows are cut from."""


class ModelConfig(Protocol):
    """The numbers that tell one network of a family from another; needs no torch."""

    @property
    def scale(self) -> int:
        """Side of the output over side of the input."""

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the parts of the network, each in a file of its own."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that TOML and JSON can hold."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From such values; ValueError names every fault."""


class RestorationModel(Protocol):
    """A network that is ready for images."""

    @property
    def info(self) -> ModelInfo:
        """What may be asked of it."""

    @property
    def config(self) -> Any:
        """Its numbers: a `ModelConfig` of its family."""

    def to(self, device: torch.device, dtype: torch.dtype, engine: Engine) -> RestorationModel:
        """The same weights on a device, computing in a number format, executed in one way."""

    def context(
        self,
        lq: Tensor,
        seed: int,
        truth: Tensor | None = None,
        budget: int | None = None,
        progress: Progress | None = None,
    ) -> Context:
        """Look at a whole image.

        Args:
            lq: (1, 3, H, W) in [0, 1] on the CPU, of any size; with a mask (1, 4, H, W): black
                holes, and 1 in them behind.
            seed: Where all noise comes from.
            truth: (1, 3, scale·H, scale·W) in [0, 1] where the network sees it.
            budget: Bytes that this may take on the device; None for no limit.
            progress: Called with the share that is done, 0 to 1; optional.
        """

    def restore(
        self, lq: Tensor, window: Window, context: Any, progress: Progress | None = None
    ) -> Tensor:
        """Restore a window: (1, 3, scale·h, scale·w), near [0, 1] but not clamped.

        Args:
            lq: (1, C, h, w), cut from `context.lq`.
            window: Where it was cut.
            context: What `context` gave for the image.
            progress: Called with the share that is done, 0 to 1; optional.
        """

    def memory(self, width: int, height: int) -> int:
        """Bytes that a window of so many LQ pixels takes, beside weights and pictures."""

    def context_memory(self, width: int, height: int, budget: int | None) -> int:
        """Bytes that `context` takes for an image."""

    def parts(self) -> Mapping[str, nn.Module]:
        """Its modules by name."""


def require_components(family: str, config: ModelConfig, files: Mapping[str, Path]) -> None:
    """Make sure that there is a file for every component of a network.

    Raises:
        CheckpointError: when one is missing.
    """
    missing = [component for component in config.components if component not in files]
    if missing:
        component, path = next(iter(files.items()))
        raise CheckpointError(
            f"{path} is the {component} of a {family} network, which needs its "
            f"{' and '.join(missing)} too",
            "name an entry of weights.toml, or of a registry of yours that lists both files",
        )


class ModelFamily(Protocol):
    """A kind of networks."""

    name: str
    """Lower case, as in `weights.toml`."""

    def check(self, component: str, path: Path, config: Any) -> None:
        """Make sure that a file holds a component of a network of a configuration.

        Raises:
            CheckpointError: when it cannot be read or trusted, or holds something else.
        """

    def fits(self, component: str, path: Path, config: Any) -> bool:
        """Whether a file that holds a component is of a network of a configuration.

        Raises:
            CheckpointError: when it cannot be read or trusted, or is no whole network.
        """

    def rewrite(
        self,
        component: str,
        source: Path,
        target: Path,
        config: Any,
        metadata: Mapping[str, str],
        half: bool = False,
    ) -> None:
        """Write a file that holds a component of a network again, as safetensors.

        Args:
            component: What it holds.
            source: The file.
            target: The new file; replaced atomically if it exists.
            config: What the network looks like.
            metadata: Further entries of the header.
            half: Store fp16 instead of fp32.

        Raises:
            CheckpointError: when it cannot be read or trusted, holds something else, or the target
                cannot be written.
        """

    def config_of(self, component: str, path: Path, known: Sequence[Any]) -> Any:
        """The configuration of the network that a file holds a component of.

        Args:
            component: What it holds.
            path: The file.
            known: Configurations of networks that it may be of, for what a file does not show.

        Raises:
            CheckpointError: when it cannot be read or trusted, or the configuration remains open.
        """

    def recognise(self, names: Sequence[str]) -> str | None:
        """Which component has parameters of these names; None where none does."""

    def load(
        self, files: Mapping[str, Path], config: Any | None = None, any_stage: bool = False
    ) -> RestorationModel:
        """The network in files.

        Args:
            files: By component.
            config: What it must look like; None takes what the files say.
            any_stage: Whether a network that sees the truth will do.

        Raises:
            CheckpointError: when a file is missing, cannot be read or trusted, or does not fit.
        """

    def info(self, config: Any) -> ModelInfo:
        """What may be asked of a network of a configuration."""

    def cost(self, config: Any, width: int, height: int) -> Cost:
        """What a network of a configuration costs for an image of so many LQ pixels."""

    def module_parts(self, model: nn.Module) -> Iterator[tuple[str, nn.Module, ModulePart]]:
        """The parts of a network whose times can be taken, with their names in it.

        None holds another, and what they cost adds up to what the network costs.
        """

    def build(self, config: Any) -> RestorationModel:
        """A network with random weights."""
