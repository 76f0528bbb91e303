"""Whether the tensors of a file are those of a network, and the network of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from diffir_cli.errors import CheckpointError
from diffir_cli.util.tables import Table

Network = TypeVar("Network", bound=nn.Module)
Config = TypeVar("Config", bound=Table)


def fill(network: Network, tensors: Mapping[str, Tensor], source: object, name: str) -> Network:
    """Give a network the tensors of a file, strictly.

    Args:
        network: Built on the meta device.
        tensors: Finite, in fp32.
        source: What messages call the file.
        name: What they call the network.

    Returns:
        The network, in eval mode on the CPU.

    Raises:
        CheckpointError: when parameters are missing, surplus or misshaped.
    """
    wanted, found = shapes_of(network.state_dict()), shapes_of(tensors)
    misshaped = [
        f"{key} {list(found[key])} instead of {list(shape)}"
        for key, shape in wanted.items()
        if key in found and found[key] != shape
    ]
    faults = {
        "missing": [key for key in wanted if key not in found],
        "surplus": [key for key in found if key not in wanted],
        "misshaped": sorted(misshaped),
    }
    described = [
        f"{len(keys)} {fault} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
        for fault, keys in faults.items()
        if keys
    ]
    if described:
        raise no_fit(source, name, "; ".join(described))
    network.load_state_dict(tensors, assign=True)
    return network.requires_grad_(False).eval()


def no_fit(source: object, name: str, why: str) -> CheckpointError:
    """What is wrong with a file that is of another network than its configuration."""
    return CheckpointError(
        f"{source} does not fit the {name}: {why}",
        "check that the weights file and the configuration belong together",
    )


def check_finite(tensors: Mapping[str, Tensor], source: object) -> None:
    """Refuse the tensors of a training that went wrong.

    Raises:
        CheckpointError: when one has NaN or infinite numbers.
    """
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"{source} has NaN or infinite numbers in {name!r}", "use an earlier checkpoint"
            )


def config_in_header(kind: type[Config], text: str, path: Path) -> Config:
    """The configuration that stands in the header of a file.

    Raises:
        CheckpointError: when it is none.
    """
    try:
        return kind.from_dict(json.loads(text))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} has a broken configuration in its header: {error}",
            "convert the original again",
        ) from error


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor."""
    return {name: tuple(value.shape) for name, value in tensors.items()}
