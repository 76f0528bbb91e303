"""A family of networks moves in without a change to the package: files, tiles, commands."""

# ruff: noqa: ARG001, ARG002

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffir_cli.doctor import checks
from diffir_cli.imaging import Picture, write_picture
from diffir_cli.models import families
from diffir_cli.models.base import ModelInfo, Tiling, Window, require_components
from diffir_cli.models.cost import Cost, Count, ModulePart
from diffir_cli.models.progress import Progress
from diffir_cli.options import Engine, Task
from diffir_cli.util.files import file_sha256
from diffir_cli.weights.registry import read_registry
from tests.conftest import noise_image, succeeded
from tests.conftest import run_cli as run
from tests.download_helpers import home as home

NOISE = 2.0 / 255


@dataclass(frozen=True)
class ToyConfig:
    scale: int = 2
    components = ("gain", "offset")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ToyConfig:
        return cls(**values)


@dataclass(frozen=True)
class ToyContext:
    lq: Tensor
    noise: Tensor


class ToyModel:
    """Nearest-neighbour enlargement with a learnable gain and offset, and noise of the place."""

    def __init__(self, config: ToyConfig, gain: nn.Linear, offset: nn.Linear) -> None:
        self.config, self.gain, self.offset = config, gain, offset
        tiling = Tiling(32, 4)
        self.info = ModelInfo("toy", frozenset({Task.SR}), config.scale, 4, tiling=tiling)

    def to(self, device: torch.device, dtype: torch.dtype, engine: Engine) -> ToyModel:
        return ToyModel(self.config, self.gain.to(device), self.offset.to(device))

    def context(
        self,
        lq: Tensor,
        seed: int,
        truth: Tensor | None = None,
        budget: int | None = None,
        progress: Progress | None = None,
    ) -> ToyContext:
        below, right = (-side % 4 for side in lq.shape[2:])
        padded = nn.functional.pad(lq, (0, right, 0, below), "replicate")
        made = torch.Generator().manual_seed(seed)
        return ToyContext(padded, NOISE * torch.randn(padded.shape, generator=made))

    def restore(
        self, lq: Tensor, window: Window, context: ToyContext, progress: Progress | None = None
    ) -> Tensor:
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        noisy = lq * self.gain.weight + self.offset.weight + context.noise[..., rows, columns]
        return noisy.repeat_interleave(self.info.scale, 2).repeat_interleave(self.info.scale, 3)

    def memory(self, width: int, height: int) -> int:
        return 100 * width * height

    def context_memory(self, width: int, height: int, budget: int | None) -> int:
        return 24 * width * height

    def parts(self) -> Mapping[str, nn.Module]:
        return {"gain": self.gain, "offset": self.offset}


class ToyFamily:
    name = "toy"

    def recognise(self, names: Sequence[str]) -> str | None:
        return next((part for part in ("gain", "offset") if f"{part}.weight" in names), None)

    def load(
        self, files: Mapping[str, Path], config: Any = None, any_stage: bool = False
    ) -> ToyModel:
        require_components(self.name, config or ToyConfig(), files)
        model = self.build(config or ToyConfig())
        for name, part in model.parts().items():
            self.check(name, files[name], config)
            part.weight.data = load_file(files[name])[f"{name}.weight"]
        return model

    def check(self, component: str, path: Path, config: Any) -> None:
        assert self.recognise(list(load_file(path))) == component

    def fits(self, component: str, path: Path, config: Any) -> bool:
        return True

    def config_of(self, component: str, path: Path, known: Sequence[ToyConfig]) -> ToyConfig:
        return known[0]

    def rewrite(
        self,
        component: str,
        source: Path,
        target: Path,
        config: Any,
        metadata: Mapping[str, str],
        half: bool = False,
    ) -> None:
        self.check(component, source, config)
        save_file(load_file(source), target, dict(metadata))

    def info(self, config: ToyConfig) -> ModelInfo:
        return self.build(config).info

    def cost(self, config: ToyConfig, width: int, height: int) -> Cost:
        part = ModulePart("gain", "gain", "product")
        return Cost(width, height, {"gain": 1}, {part: Count(3 * width * height)}, 0)

    def module_parts(self, model: nn.Module) -> Iterator[tuple[str, nn.Module, ModulePart]]:
        return iter(())

    def build(self, config: ToyConfig) -> ToyModel:
        gain, offset = (nn.Linear(1, 1, bias=False) for _ in range(2))
        return ToyModel(config, gain, offset)


FAMILY = ToyFamily()


@pytest.fixture
def toy(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry with two entries of the toy family, which share a file, and their files."""
    entry = families.FamilyEntry(f"{__name__}:ToyConfig", f"{__name__}:FAMILY")
    monkeypatch.setitem(families.FAMILIES, "toy", entry)
    lines = []
    for name, gain in (("toy-a", 0.5), ("toy-b", 0.25)):
        lines.append(f'[{name}]\nfamily = "toy"\ntask = "sr"\nscale = 2\nsummary = "A toy"')
        lines.append('license = "MIT"\nsource = "here"\nmodel = { scale = 2 }')
        for part, value in (("gain", gain), ("offset", 0.125)):
            path = tmp_path / (f"{name}-gain" if part == "gain" else "offset")
            path = path.with_suffix(".safetensors")
            save_file({f"{part}.weight": torch.full((1, 1), value)}, path)
            lines.append(f'[[{name}.files]]\ncomponent = "{part}"\nfile = "{path.name}"')
            lines.append(f'size = {path.stat().st_size}\nsha256 = "{file_sha256(path)}"')
    registry = tmp_path / "toys.toml"
    registry.write_text("\n".join(lines))
    return registry


def install(registry: Path, *names: str) -> None:
    for name in names:
        succeeded(run("download-weights", "--from", registry.parent / name, "--registry", registry))


@pytest.fixture
def installed(toy: Path) -> Path:
    install(toy, "toy-a-gain.safetensors", "offset.safetensors")
    return toy


def test_files_that_entries_share_are_kept_once(installed: Path) -> None:
    states = json.loads(
        run("download-weights", "--list", "--json", "--registry", installed).stdout
    )["weights"]
    found = {one["name"]: one for one in states if one["name"].startswith("toy")}
    assert found["toy-a"]["state"] == "cached" and found["toy-b"]["state"] == "missing"
    assert found["toy-b"]["paths"] == found["toy-a"]["paths"][1:]
    install(installed, "toy-b-gain.safetensors")
    succeeded(run("download-weights", "toy-b", "--remove", "--registry", installed))
    # What the other entry needs is still there.
    assert run("download-weights", "toy-a", "--verify", "--registry", installed).exit_code == 0


def test_restore_gives_the_same_picture_whatever_the_tiles(installed: Path, tmp_path: Path) -> None:
    write_picture(Picture(noise_image(40, 100)), tmp_path / "in.png")
    results = []
    for tile in ("auto", "off", "64"):
        output = tmp_path / f"{tile}.png"
        done = succeeded(
            run(
                *("restore", tmp_path / "in.png", "-o", output, "--task", "sr", "-w", "toy-a"),
                *("--registry", installed, "--tile", tile, "--seed", 3, "--json"),
            )
        )
        assert json.loads(done.stdout)["tile"] == {"auto": 32, "off": 0, "64": 64}[tile]
        results.append(output.read_bytes())
    assert results[0] == results[1] == results[2]


def test_batch_evaluate_benchmark_and_doctor_work_with_the_family(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(2):
        write_picture(Picture(noise_image(24, 24, seed=number)), pictures / f"{number}.png")
    chosen = ("--registry", installed)
    succeeded(
        run("batch", pictures, "-o", tmp_path / "out", "--task", "sr", "-w", "toy-a", *chosen)
    )
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    succeeded(run("evaluate", "--gt", pictures, "--task", "sr", "-w", "toy-a", *chosen, "--json"))
    known = [spec for spec in read_registry(installed).values() if spec.family == "toy"]
    monkeypatch.setattr(checks, "read_registry", lambda _extra: {one.name: one for one in known})
    assert "toy-a" in run("doctor", "--registry", installed).output
    succeeded(run("benchmark", "-w", "toy-a", *chosen, "--cost-only", "--input-size", "16x16"))


def test_a_file_of_the_family_is_converted(toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    done = run("convert", tmp_path / "offset.safetensors", "-o", out, "--registry", toy)
    assert done.exit_code == 0, done.output
    assert "toy offset, 1 parameters" in done.output
    assert load_file(out)["offset.weight"].item() == 0.125


def test_one_file_of_several_is_refused_with_what_is_missing(toy: Path, tmp_path: Path) -> None:
    write_picture(Picture(noise_image(8, 8)), tmp_path / "in.png")
    done = run(
        *("restore", tmp_path / "in.png", "-o", tmp_path / "out.png"),
        *("--task", "sr", "-w", tmp_path / "toy-a-gain.safetensors"),
    )
    assert done.exit_code == 4
    assert "is the gain of a toy network, which needs its offset too" in done.output


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (('family = "toy"', 'family = "tay"'), "there is no family 'tay'"),
        (('component = "offset"', 'component = "gain"'), "one for each component: gain, offset"),
        (('file = "offset.safetensors"', 'file = "../x"'), "must be a bare name"),
    ],
)
def test_faults_of_entries_with_several_files_are_named(
    toy: Path, change: tuple[str, str], fault: str
) -> None:
    toy.write_text(toy.read_text().replace(*change))
    done = run("download-weights", "--list", "--registry", toy)
    assert done.exit_code == 4 and fault in done.output


def test_a_seed_means_the_same_noise_in_every_window() -> None:
    model = FAMILY.build(ToyConfig())
    lq = torch.rand(1, 3, 32, 48)
    context = model.context(lq, 5)
    whole = model.restore(lq, Window(0, 0, 48, 32), context)
    part = model.restore(lq[..., 8:, 16:], Window(16, 8, 32, 24), context)
    assert torch.equal(part, whole[..., 16:, 32:])
