"""Networks of two files as one download, and what is said where the two do not go together."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from diffir_cli.errors import WeightsError
from diffir_cli.imaging import Picture, write_picture
from diffir_cli.weights import http
from diffir_cli.weights.cache import State, state_of
from diffir_cli.weights.download import DownloadPolicy
from diffir_cli.weights.entry import obtain_entry
from diffir_cli.weights.imports import import_weights
from diffir_cli.weights.registry import WeightSpec, find_weights
from tests.conftest import noise_image, run_cli, succeeded
from tests.download_helpers import HASTY
from tests.resshift_helpers import NARROW, entry, official_files
from tests.web import Web, served

pytestmark = pytest.mark.usefixtures("home")


class Published(NamedTuple):
    """A model on two servers, and the registry that has it."""

    files: dict[str, Path]
    webs: dict[str, Web]
    registry: Path

    def write(self, swapped: bool = False, known: bool = True, more: str = "") -> None:
        """Write the registry, with what is known of the files or nothing."""
        sources = list(self.webs.values())[:: -1 if swapped else 1]
        urls = dict(zip(self.webs, (web.url("ok") for web in sources), strict=True))
        text = entry("narrow-x4", NARROW, self.files, urls, more)
        if not known:
            text = re.sub(r"^(size|sha256) = .*\n", "", text, flags=re.MULTILINE)
        self.registry.write_text(text, encoding="utf-8")

    @property
    def spec(self) -> WeightSpec:
        return find_weights("narrow-x4", self.registry)

    @property
    def total(self) -> int:
        return sum(file.stat().st_size for file in self.files.values())

    def get(self, **arguments: Any) -> list[Path]:
        policy = DownloadPolicy(retry=HASTY, **arguments)
        return obtain_entry(self.spec, policy, import_weights)


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Published]:
    files = official_files(tmp_path, NARROW)
    with ExitStack() as servers:
        webs = {
            name: servers.enter_context(served(file.read_bytes())) for name, file in files.items()
        }
        found = Published(files, webs, tmp_path / "registry.toml")
        found.write()
        yield found


@pytest.mark.parametrize("known", [True, False])
def test_both_files_count_towards_one_total(known: bool, published: Published) -> None:
    published.write(known=known)
    seen: list[tuple[int, int]] = []
    published.get(notify=lambda here, whole: seen.append((here, whole)))
    bytes_there = [here for here, _ in seen]
    assert bytes_there == sorted(bytes_there) and bytes_there[-1] == published.total
    assert {whole for _, whole in seen} == {published.total}
    assert state_of(published.spec, verify=True) is State.VERIFIED


def test_a_licence_is_asked_for_once_and_before_the_first_byte(published: Published) -> None:
    published.write(more="accept = true")
    asked: list[str] = []

    def agree(spec: WeightSpec) -> bool:
        assert not any(web.asked for web in published.webs.values())
        asked.append(spec.owner)
        return True

    published.get(agree=agree)
    assert asked == ["narrow-x4"]
    shutil.rmtree(published.registry.parent / "home" / "cache")
    with pytest.raises(WeightsError, match="has the licence 'other'"):
        text = published.registry.read_text(encoding="utf-8")
        published.registry.write_text(text.replace('license = "none"', 'license = "other"'))
        published.get()


def test_the_command_says_how_much_comes_and_keeps_both_files_for_use_offline(
    published: Published, photo: Path, home: Path
) -> None:
    chosen = ("narrow-x4", "--registry", published.registry)
    done = succeeded(run_cli("download-weights", *chosen))
    size = f"{published.total / 2**20:.1f} MiB"
    assert done.stderr.count("downloading") == 1
    assert f"downloading narrow-x4, {size}, licence: none" in done.stderr
    assert [len(web.asked) for web in published.webs.values()] == [1, 1]
    succeeded(run_cli("restore", photo, "--offline", "-w", *chosen))
    kept = [path.suffix for path in (home / "cache" / "weights").rglob("*") if path.is_file()]
    assert kept == [".safetensors", ".safetensors"]


def _free(patch: pytest.MonkeyPatch, *free: int) -> None:
    """Let a disk have so many bytes free, one figure for each question and then the last."""
    left = list(free)

    def disk_usage(_path: Path) -> Any:
        return SimpleNamespace(free=left.pop(0) if len(left) > 1 else left[0])

    patch.setattr(shutil, "disk_usage", disk_usage)


def test_a_disk_too_small_for_both_is_refused_before_the_first_byte(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    _free(monkeypatch, http._SPARE + published.total)
    with pytest.raises(WeightsError, match="more bytes are needed in"):
        published.get()
    assert not any(web.asked for web in published.webs.values())
    assert state_of(published.spec) is State.MISSING


def test_a_disk_that_fills_between_the_files_keeps_the_first_whole(
    published: Published, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    with monkeypatch.context() as patch:
        # The questions for both, for the first file, for its head, and to write it again.
        _free(patch, *([2**40] * 4), 0)
        with pytest.raises(WeightsError, match="more bytes are needed in") as caught:
            published.get()
    assert "\n" not in caught.value.message and "free some space" in caught.value.hint
    kept = [path for path in (home / "cache" / "weights").rglob("*") if path.is_file()]
    assert [path.suffix for path in kept] == [".safetensors"]
    states = [state_of(part, verify=True) for part in published.spec.files]
    assert states == [State.VERIFIED, State.MISSING]
    assert state_of(published.spec) is State.MISSING
    published.get()
    assert [len(web.asked) for web in published.webs.values()] == [1, 1]
    assert state_of(published.spec, verify=True) is State.VERIFIED


@pytest.mark.parametrize("there", ["denoiser", "autoencoder"])
def test_one_file_of_two_is_not_enough_and_the_other_is_named(
    there: str, published: Published, tmp_path: Path
) -> None:
    chosen = ("--registry", published.registry)
    succeeded(run_cli("download-weights", "narrow-x4", "--from", published.files[there], *chosen))
    write_picture(Picture(noise_image(8, 8)), tmp_path / "in.png")
    use = ("restore", tmp_path / "in.png", "-o", tmp_path / "out.png", "-w", "narrow-x4", *chosen)
    refused = run_cli(*use, "--no-download")
    (missing,) = set(published.files) - {there}
    assert refused.exit_code == 4
    assert f"error: {missing}.pth of narrow-x4 is not on this machine" in refused.stderr
    assert f"--from {missing}.pth" in refused.stderr
    assert not (tmp_path / "out.png").exists()
    # With a network only the other one is brought.
    assert run_cli(*use).exit_code == 0
    assert {name for name, web in published.webs.items() if web.asked} == {missing}


@pytest.mark.parametrize("known", [True, False])
def test_an_address_with_the_other_component_installs_nothing(
    known: bool, published: Published, home: Path, tmp_path: Path
) -> None:
    published.write(swapped=True, known=known)
    write_picture(Picture(noise_image(8, 8)), tmp_path / "in.png")
    for command in (
        ("download-weights", "narrow-x4"),
        ("restore", tmp_path / "in.png", "-w", "narrow-x4"),
    ):
        done = run_cli(*command, "--registry", published.registry)
        assert done.exit_code == 4 and done.stderr.count("error:") == 1, done.output
        if not known:
            wording = "holds the autoencoder of a ResShift model, where its denoiser is needed"
            assert wording in done.stderr
    assert not [path for path in (home / "cache" / "weights").rglob("*") if path.is_file()]


def test_files_of_different_models_are_not_put_together(
    published: Published, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = official_files(tmp_path / "other", replace(NARROW, width=32, ae_width=16))
    published.write(known=False)
    chosen = ("--registry", published.registry)
    for file in other.values():
        done = run_cli("download-weights", "narrow-x4", "--from", file, *chosen)
        assert done.exit_code == 4 and done.stderr.count("error:") == 1, done.output
        assert not list((home / "cache" / "weights").rglob("*.safetensors"))
    # One that was put there by hand, beside the right one.
    denoiser, autoencoder = published.spec.files
    succeeded(run_cli("download-weights", "--from", published.files["denoiser"], *chosen))
    folder = home / "cache" / "weights" / autoencoder.name
    folder.mkdir(exist_ok=True)
    shutil.copy(other["autoencoder"], folder / autoencoder.file)
    write_picture(Picture(noise_image(8, 8)), tmp_path / "in.png")
    out = tmp_path / "out.png"
    done = run_cli("restore", tmp_path / "in.png", "-o", out, "-w", "narrow-x4", *chosen)
    assert done.exit_code == 4 and done.stderr.count("error:") == 1, done.output
    assert not out.exists() and state_of(denoiser) is State.CACHED
