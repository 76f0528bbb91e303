"""What a network reaches for what it costs, as in the paper's Figure 1."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffir_cli.benchmark.subject import Subject
from diffir_cli.errors import InputError
from diffir_cli.util.json_files import read_json
from diffir_cli.weights.registry import read_registry

SIDE = 256
"""Pixels of the input for which costs are counted, as in the paper."""


@dataclass(frozen=True)
class Quality:
    """What `diffir evaluate` found of one network."""

    weights: str
    """The registry's name, or the file's."""
    protocol: str
    """Whose conventions; only figures by the same can be compared."""
    conventions: str
    """These in words: a protocol may change."""
    scale: int
    """Of the network."""
    psnr: float
    """Mean in dB."""
    others: Mapping[str, float]
    """Mean PSNR of what was measured beside, which costs no network."""
    pictures: tuple[str, ...]
    """The names of what was measured; only figures of the same can be compared."""
    mult_adds: int
    """By the convention `exact`, at 256×256."""

    @property
    def panel(self) -> tuple[str, int]:
        """What is drawn together: scores by one protocol, at one scale."""
        return self.protocol, self.scale


def read_quality(path: Path, subjects: Collection[Subject] = ()) -> Quality:
    """What `diffir evaluate --json` printed, with what the network costs.

    Args:
        path: The file.
        subjects: Of this run, for files that the registry does not know.

    Raises:
        InputError: when the file is of another kind, or the cost of its weights is not known.
    """
    found = read_json(path)
    methods, weights = found.get("methods"), found.get("weights")
    if not isinstance(methods, dict) or not methods or "protocol" not in found:
        raise InputError(
            f"{path} is not JSON of diffir evaluate",
            "make one: diffir evaluate --gt DIR --json > FILE",
        )
    if not isinstance(weights, dict):
        raise InputError(
            f"{path} is of finished results, whose cost nobody knows",
            "let diffir evaluate restore them: --gt DIR --lq DIR",
        )
    # The network is measured first, the baselines behind it.
    values = {name: _psnr(method) for name, method in methods.items()}
    first, *others = values
    if values[first] is None:
        raise InputError(f"{path} has no finite mean PSNR", "evaluate on other pictures")
    name = str(weights.get("name"))
    subject = _subject(name, weights.get("sha256"), path, subjects)
    return Quality(
        name,
        str(found["protocol"]),
        str(found.get("conventions", "")),
        subject.info.scale,
        float(values[first] or 0),
        {other: value for other in others if (value := values[other]) is not None},
        _pictures(methods[first]),
        subject.cost(SIDE, SIDE).exact,
    )


def check_alike(qualities: Sequence[Quality]) -> None:
    """Refuse to draw figures in one panel that cannot be compared.

    Raises:
        InputError: when two of a panel are of different pictures or conventions, or do not agree on
            what both were compared with.
    """
    firsts: dict[tuple[str, int], Quality] = {}
    for quality in qualities:
        first = firsts.setdefault(quality.panel, quality)
        both = f"the results of {first.weights} and {quality.weights}"
        if first.pictures != quality.pictures:
            raise InputError(f"{both} are of different pictures", "evaluate both on the same")
        if first.conventions != quality.conventions:
            raise InputError(
                f"{both} follow different conventions: {first.conventions!r} and "
                f"{quality.conventions!r}",
                "evaluate both with the same version",
            )
        for name in first.others.keys() & quality.others.keys():
            if abs(first.others[name] - quality.others[name]) > _ALIKE:
                raise InputError(
                    f"{both} do not agree on {name}: {first.others[name]:.2f} and "
                    f"{quality.others[name]:.2f} dB",
                    "evaluate both in the same way",
                )


_ALIKE = 0.01
"""dB by which machines may differ on what costs no network."""


def _pictures(method: Any) -> tuple[str, ...]:
    images = method.get("images")
    found = images if isinstance(images, list) else []
    return tuple(str(image.get("name")) for image in found if isinstance(image, dict))


def _psnr(method: Any) -> float | None:
    mean = method.get("mean") if isinstance(method, dict) else None
    value = mean.get("psnr") if isinstance(mean, dict) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _subject(name: str, sha256: object, path: Path, subjects: Collection[Subject]) -> Subject:
    """The network of a result: of its very weights, else of its name."""
    for subject in subjects:
        if subject.sha256 and subject.sha256 == sha256:
            return subject
    specs = read_registry()
    if name in specs:
        return Subject(name, specs[name].model, family=specs[name].family)
    for subject in subjects:
        if subject.name == name and subject.sha256 is None:
            return subject
    raise InputError(
        f"{path} is of {name!r}, whose cost is not known",
        f"measure it in the same run: --weights {name}",
    )
