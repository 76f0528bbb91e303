"""Registries: ours, and those of users with whatever is wrong in them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.cost import count_cost
from diffir_cli.models.families import find_family
from diffir_cli.weights.registry import read_registry
from tests.download_helpers import download, entry
from tests.resshift_released import RELEASED

pytestmark = pytest.mark.usefixtures("home")


def test_every_official_checkpoint_is_listed_with_its_page() -> None:
    official = {
        spec.name: spec
        for spec in read_registry().values()
        if spec.family == "diffir" and not spec.embedded
    }
    realsr = {f"realsr-x{scale}{kind}" for scale in (1, 2, 4) for kind in ("", "-v2")}
    inpaint = {"inpaint-celeba", "inpaint-places", "inpaint-places-big"}
    without_gan, teachers = {"sr-x4-psnr", "realsr-x4-psnr"}, {"sr-x4-s1", "deblur-gopro-s1"}
    others = {"sr-x2", "sr-x4", "deblur-gopro"} | without_gan | teachers
    assert set(official) == realsr | inpaint | others
    for spec in official.values():
        assert spec.license
        assert spec.source.startswith("https://drive.google.com/drive/folders/")
        folder = spec.source.rpartition("/")[2]
        assert spec.urls[-1].startswith(f"gdrive-folder:{folder}/")
        name = spec.urls[-1].rpartition("/")[2]
        assert name == spec.file or fnmatchcase(spec.file, name)
    assert {name for name, spec in official.items() if spec.sha256 != "unpinned"} == {
        "deblur-gopro"
    }
    assert {name for name, spec in official.items() if spec.teaches} == teachers


def test_official_entries_of_a_network_have_one_configuration() -> None:
    known = read_registry()
    for name in ("sr-x4-psnr", "realsr-x4-psnr", "sr-x4-s1", "realsr-x4", "realsr-x4-v2"):
        assert known[name].model == known["sr-x4"].model
    assert known["deblur-gopro-s1"].model == known["deblur-gopro"].model
    # As published: parameters of stage 2, and of stage 1 of the deblurring network.
    stage2 = find_family("diffir").cost(known["sr-x4-psnr"].model, 16, 16)
    assert sum(stage2.parameters.values()) == 24_971_206
    stage1 = count_cost(known["deblur-gopro-s1"].model, 16, 16, stage=1)
    assert sum(stage1.parameters.values()) == 26_742_206


def test_every_released_model_of_resshift_is_listed_with_its_licence_to_be_accepted() -> None:
    released = {"realsr-x2": None, "bicubic-x4-opencv-s15": None, "bicubic-x4-matlab-s15": None}
    found = [spec for spec in read_registry().values() if spec.family == "resshift"]
    models = [spec.model for spec in found]
    assert all(model in models for name, model in RELEASED.items() if name not in released)
    for spec in found:
        assert spec.accept and "non-commercial" in spec.license
        assert [part.component for part in spec.files] == ["denoiser", "autoencoder"]
        assert all(part.urls for part in spec.files)
    f4 = {spec.files[1].name for spec in found if spec.files[1].file == "autoencoder_vq_f4.pth"}
    assert len(f4) == 1


def test_the_users_registry_comes_before_ours(
    tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = tmp_path / "registry.toml"
    registry.write_text(entry(tiny, "sr-x4", license="Mine"), encoding="utf-8")
    monkeypatch.setenv("DIFFIR_REGISTRY", str(registry))
    assert read_registry()["sr-x4"].license == "Mine"
    assert "Mine" in download("--list").stdout
    monkeypatch.delenv("DIFFIR_REGISTRY")
    assert read_registry()["sr-x4"].license != "Mine"


@pytest.mark.parametrize(
    ("fields", "wording"),
    [
        ({"file": "../../evil.pth"}, "bare name"),
        ({"file": "/etc/passwd"}, "bare name"),
        ({"file": ".bashrc"}, "bare name"),
        ({"urls": ["file:///etc/passwd"]}, "must begin with"),
        ({"urls": ["ftp://example.org/x"]}, "must begin with"),
        ({"urls": "https://example.org"}, "urls must be a list such as"),
        ({"sha256": "abc"}, "64 digits"),
        ({"size": -1}, "negative"),
        ({"size": "large"}, "whole number"),
        ({"task": "denoise"}, "denoise"),
        ({"scale": 2}, "scale 2"),
        ({"embedded": True}, "only the package"),
        ({"accept": "true"}, "true or false"),
        ({"file": "con.pth"}, "bare name"),
        ({"file": "ü" * 101}, "bare name"),
        ({"urls": ["GDRIVE:abc"]}, "must begin with"),
        ({"urls": ["gdrive-folder:abc"]}, "gdrive-folder:ID/NAME"),
        ({"component": "autoencoder"}, "alone is no 'autoencoder'"),
        ({"colour": "red"}, "colour is no field"),
    ],
)
def test_a_registry_with_a_fault_is_refused(
    fields: dict[str, Any], wording: str, tiny: ModelConfig, tmp_path: Path
) -> None:
    registry = tmp_path / "registry.toml"
    registry.write_text(entry(tiny, **fields), encoding="utf-8")
    result = download("--list", "--registry", registry)
    assert result.exit_code == 4
    assert wording in result.stderr
    assert "[tiny]" in result.stderr


def test_every_fault_of_an_entry_is_reported_at_once(tiny: ModelConfig, tmp_path: Path) -> None:
    registry = tmp_path / "registry.toml"
    text = entry(tiny, size="large", accept=1, fiel="tiny.pth", task="denoise")
    registry.write_text(text.replace("\ndim = ", "\ndims = "), encoding="utf-8")
    stderr = download("--list", "--registry", registry).stderr
    for fault in (
        "size must be a whole number, not 'large'",
        "accept must be true or false, not 1",
        "fiel is no field, did you mean 'file'?",
        "task must be one of sr, ",
        "model: dims is no field, did you mean 'dim'?",
    ):
        assert fault in stderr, stderr


@pytest.mark.parametrize("name", ["..", "a/b", "Tiny", "", "nul", "a."])
def test_a_name_is_never_a_path(name: str, tiny: ModelConfig, tmp_path: Path) -> None:
    registry = tmp_path / "registry.toml"
    text = entry(tiny).replace("[tiny", f'["{name}"')
    registry.write_text(text.replace("[tiny.model]", f'["{name}".model]'), encoding="utf-8")
    result = download("--list", "--registry", registry)
    assert result.exit_code == 4
    assert "its name must be" in result.stderr
