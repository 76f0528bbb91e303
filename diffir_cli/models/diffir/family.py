"""DiffIR as a family of networks: its files, and what its networks cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from diffir_cli.models.diffir.checkpoint import (
    load_checkpoint,
    load_model,
    load_stage1,
    rebuild,
    rebuild_stage2,
    save_weights,
)
from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.cost import count_cost
from diffir_cli.models.diffir.model import NAME, DiffIRModel, info_of
from diffir_cli.models.diffir.module_parts import module_parts
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.models.diffir.official_names import is_known, stage_of


class DiffIRFamily:
    """All networks of DiffIR."""

    name = NAME
    info = staticmethod(info_of)
    cost = staticmethod(count_cost)
    module_parts = staticmethod(module_parts)

    def check(self, component: str, path: Path, config: ModelConfig) -> None:
        """Make sure that a file holds a network of a configuration, and of its stage.

        Raises:
            CheckpointError: when it does not.
        """
        _of_stage(component, path, config)

    def fits(self, component: str, path: Path, config: ModelConfig) -> bool:
        """Whether a file holds a network, of any stage, of a configuration.

        Raises:
            CheckpointError: when it cannot be read or trusted, or is no whole network.
        """
        return self.load({component: path}, any_stage=True).config == config

    def rewrite(
        self,
        component: str,
        source: Path,
        target: Path,
        config: ModelConfig,
        metadata: Mapping[str, str],
        half: bool = False,
    ) -> None:
        """Write a network again as safetensors, with its configuration in the header.

        Raises:
            CheckpointError: when the source does not hold one of the stage, or the target cannot be
                written.
        """
        save_weights(target, _of_stage(component, source, config), metadata, half)

    def config_of(self, component: str, path: Path, known: Sequence[ModelConfig]) -> ModelConfig:
        """The configuration of the network in a file, which header or shapes show.

        Raises:
            CheckpointError: when it cannot be read or trusted.
        """
        del component, known
        return load_checkpoint(path).config

    def recognise(self, names: Sequence[str]) -> str | None:
        """`model` or `stage1` where parameters have these names."""
        if not is_known(names):
            return None
        return _STAGE_1 if stage_of(names) == 1 else "model"

    def load(
        self, files: Mapping[str, Path], config: ModelConfig | None = None, any_stage: bool = False
    ) -> DiffIRModel:
        """The network in a file.

        Raises:
            CheckpointError: when the file cannot be read or trusted, is of stage 1 unless any
                stage will do, or does not fit.
        """
        checkpoint = load_checkpoint(next(iter(files.values())), config)
        return DiffIRModel((rebuild if any_stage else rebuild_stage2)(checkpoint))

    def build(self, config: ModelConfig) -> DiffIRModel:
        """A stage-2 network with random weights."""
        return DiffIRModel(DiffIRS2(config).eval())


FAMILY = DiffIRFamily()

_STAGE_1 = "stage1"
"""The component of a network that sees the truth and teaches stage 2."""


def _of_stage(component: str, path: Path, config: ModelConfig) -> DiffIRS1 | DiffIRS2:
    """The network of a file.

    Raises:
        CheckpointError: when the file does not hold one of the component's stage.
    """
    return load_stage1(path, config) if component == _STAGE_1 else load_model(path, config)
