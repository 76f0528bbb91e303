"""A registry, a server that has its file, and what the command says of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.networks import DiffIRS2
from diffir_cli.models.diffir.official_names import schedule_buffers
from diffir_cli.options import Task
from diffir_cli.weights.download import DownloadPolicy, obtain
from diffir_cli.weights.registry import WeightSpec
from diffir_cli.weights.transfer import RetryPolicy
from tests.conftest import run_cli
from tests.web import ENVIRONMENT, Web, served

HASTY = RetryPolicy(connect=2, read=0.4, attempts=3, pause=0.01, slowest=1000, window=0.3)
"""So that tests of what goes on for ever end soon."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DIFFIR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def published(s2: DiffIRS2, tmp_path: Path) -> Path:
    """A checkpoint in the form of the official ones."""
    path = tmp_path / "published.pth"
    torch.save({"params_ema": s2.state_dict()}, path)
    return path


@pytest.fixture
def web(published: Path) -> Iterator[Web]:
    with served(published.read_bytes()) as web:
        yield web


def entry(model: ModelConfig, name: str = "tiny", **fields: Any) -> str:
    """An entry of a registry."""
    values = {
        "task": "sr",
        "scale": 4,
        "summary": "A tiny one",
        "license": "CC0-1.0",
        "source": "https://example.org/tiny",
        "file": f"{name}.pth",
        **fields,
    }
    lines = [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    lines += [f"[{name}.model]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in model.to_dict().items()]
    return "\n".join(lines) + "\n"


@pytest.fixture
def registry(tiny: ModelConfig, web: Web, published: Path, tmp_path: Path) -> Path:
    """A registry with an entry whose file a server has."""
    sha256 = hashlib.sha256(published.read_bytes()).hexdigest()
    promised: dict[str, Any] = {"size": published.stat().st_size, "sha256": sha256}
    path = tmp_path / "registry.toml"
    path.write_text(entry(tiny, urls=[web.url("ok")], **promised), encoding="utf-8")
    return path


def download(*arguments: object) -> Result:
    return run_cli("download-weights", *arguments)


def states(*arguments: object) -> dict[str, str]:
    listed = json.loads(download("--list", "--json", *arguments).stdout)
    return {found["name"]: found["state"] for found in listed["weights"]}


@pytest.fixture
def official(tiny: ModelConfig, s2: DiffIRS2, tmp_path: Path) -> Path:
    """A file with what only official ones have: the schedule's buffers."""
    from diffir_cli.models.diffir.diffusion import NoiseSchedule

    buffers = schedule_buffers(NoiseSchedule.of(tiny))
    state = {**s2.state_dict(), **{f"diffusion.{key}": value for key, value in buffers.items()}}
    path = tmp_path / "by hand.pth"
    torch.save({"params": state}, path)
    return path


@pytest.fixture
def content(published: Path) -> bytes:
    """A checkpoint in the form of the official ones."""
    return published.read_bytes()


@pytest.fixture
def spec(content: bytes, tiny: ModelConfig) -> WeightSpec:
    return WeightSpec(
        name="tiny",
        task=Task.SR,
        scale=4,
        summary="A tiny one",
        license="CC0-1.0",
        source="https://example.org/tiny",
        file="tiny.pth",
        model=tiny,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def by(spec: WeightSpec, *urls: str, **changes: Any) -> WeightSpec:
    return dataclasses.replace(spec, urls=urls, **changes)


def get(spec: WeightSpec, *, retry: RetryPolicy = HASTY, **parameters: Any) -> Path:
    return obtain(spec, DownloadPolicy(retry=retry, **parameters))
