"""ResShift as a family of networks: its files, and what its models cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffir_cli.errors import CheckpointError
from diffir_cli.models.base import require_components
from diffir_cli.models.resshift.checkpoint import (
    Component,
    choose_config,
    load_autoencoder,
    load_denoiser,
    load_model,
    save_component,
)
from diffir_cli.models.resshift.checkpoint import recognise as recognise_state
from diffir_cli.models.resshift.config import REALSR_V3, ResShiftConfig
from diffir_cli.models.resshift.cost import count_cost, module_parts
from diffir_cli.models.resshift.inferred_config import infer_config
from diffir_cli.models.resshift.model import NAME, ResShiftModel, info_of
from diffir_cli.models.resshift.networks import ResShift
from diffir_cli.tensorfiles.containers import read_tensors
from diffir_cli.tensorfiles.fitting import config_in_header


class ResShiftFamily:
    """All models of ResShift."""

    name = NAME
    info = staticmethod(info_of)
    cost = staticmethod(count_cost)
    module_parts = staticmethod(module_parts)

    def recognise(self, names: Sequence[str]) -> str | None:
        """`denoiser` or `autoencoder`; None where parameters have other names."""
        component = recognise_state(dict.fromkeys(names, torch.empty(0)))
        return None if component is None else component.value

    def load(
        self,
        files: Mapping[str, Path],
        config: ResShiftConfig | None = None,
        any_stage: bool = False,
    ) -> ResShiftModel:
        """The model in files, by component.

        Raises:
            CheckpointError: when a file cannot be read or trusted, is another component, or does
                not fit.
        """
        del any_stage
        states = {}
        for component, path in files.items():
            states[Component(component)], found = _read(path, Component(component), config)
            config = found if component == Component.DENOISER or config is None else config
        names = " and ".join(str(path) for path in files.values())
        if config is None:
            config = REALSR_V3
        require_components(self.name, config, files)
        if set(states) == set(Component):
            config = infer_config(
                config, states[Component.DENOISER], states[Component.AUTOENCODER], names
            )
        return ResShiftModel(load_model(config, states, names))

    def check(self, component: str, path: Path, config: ResShiftConfig) -> None:
        """Make sure that a file holds a component of a model of a configuration.

        Raises:
            CheckpointError: when it does not.
        """
        _component(component, path, config)

    def fits(self, component: str, path: Path, config: ResShiftConfig) -> bool:
        """Whether a file holds a component of a model of a configuration.

        Raises:
            CheckpointError: when it cannot be read or trusted.
        """
        read_tensors(path)
        try:
            _component(component, path, config)
        except CheckpointError:
            return False
        return True

    def rewrite(
        self,
        component: str,
        source: Path,
        target: Path,
        config: ResShiftConfig,
        metadata: Mapping[str, str],
        half: bool = False,
    ) -> None:
        """Write a component again as safetensors, with its configuration in the header.

        Raises:
            CheckpointError: when the source does not hold it, or the target cannot be written.
        """
        network = _component(component, source, config)
        own = getattr(network, "config", config)
        save_component(Component(component), target, network, own, metadata, half)

    def config_of(
        self, component: str, path: Path, known: Sequence[ResShiftConfig]
    ) -> ResShiftConfig:
        """The configuration of the model in a file: its header's, or one of `known`.

        Raises:
            CheckpointError: when the file cannot be read or trusted, or leaves the configuration of
                a denoiser open.
        """
        tensors, metadata = read_tensors(path)
        if "config" in metadata:
            return config_in_header(ResShiftConfig, metadata["config"], path)
        return choose_config(Component(component), tensors, known, str(path))

    def build(self, config: ResShiftConfig) -> ResShiftModel:
        """A model with random weights."""
        return ResShiftModel(ResShift.of(config).eval())


FAMILY = ResShiftFamily()


def _read(
    path: Path, component: Component, config: ResShiftConfig | None
) -> tuple[Mapping[str, Tensor], ResShiftConfig | None]:
    """The tensors of a component, and the configuration with what the file's header adds.

    Raises:
        CheckpointError: when the file cannot be read or trusted, or is another component.
    """
    tensors, metadata = read_tensors(path)
    found = recognise_state(tensors)
    if found is not component:
        held = f"the {found.value}" if found else "no part"
        raise CheckpointError(
            f"{path} holds {held} of a ResShift model, where its {component.value} is needed",
            "check which file is which",
        )
    if component is Component.DENOISER and "config" in metadata:
        stored = config_in_header(ResShiftConfig, metadata["config"], path)
        # What a file of ours says of itself: official files store masks instead.
        config = (
            stored
            if config is None
            else replace(config, mask=stored.mask, resolution=stored.resolution)
        )
    return tensors, config


def _component(component: str, path: Path, config: ResShiftConfig) -> Any:
    """One network of a model.

    Raises:
        CheckpointError: when the file does not hold it.
    """
    kind = Component(component)
    tensors, found = _read(path, kind, config)
    config = found or config
    if kind is Component.DENOISER:
        return load_denoiser(tensors, config, str(path))
    return load_autoencoder(tensors, config, str(path))
