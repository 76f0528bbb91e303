"""Shared fixtures: a network small enough to run in milliseconds, and files of it."""

from __future__ import annotations

import os

# Before torch is loaded: results of `--precision auto` are those of any CPU, and threads of the
# programs that tests start do not spin.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
os.environ.setdefault("GOMP_SPINCOUNT", "500")

import contextlib
import dataclasses
import json
import logging
import shutil
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import typer.main
import typer.testing
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from diffir_cli.models.diffir.checkpoint import save_weights
from diffir_cli.models.diffir.config import ModelConfig, Norm, Tail
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.util.process import cpu_limit
from tests.batch_helpers import BUCKET

pytest_plugins = ["tests.benchmark_helpers", "tests.download_helpers"]
DATA = Path(__file__).parent / "data"
GOLDEN = Path(__file__).parent / "golden"

# A shell that runs the tests in its background, or `nohup`, lets them ignore these signals.
for _name, _usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    _kind = getattr(signal, _name, None)
    if _kind and signal.getsignal(_kind) is signal.SIG_IGN:
        signal.signal(_kind, _usual)

# A process of a test may die; what it wrote does not have to survive the machine.
vars(os)["fsync"] = lambda _descriptor: None

# The commands are built once: that takes as long as a small picture does.
vars(typer.testing)["_get_command"] = cache(typer.main.get_command)

TINY = ModelConfig(
    scale=4,
    tail=Tail.SHUFFLE_ONCE,
    dim=8,
    num_blocks=(1, 1, 1, 1),
    refinement_blocks=1,
    ffn_expansion=2.0,
    norm=Norm.WITH_BIAS,
    cpen_dim=8,
    cpen_blocks=1,
)


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores, since many tests wait for servers or processes."""
    return cpu_limit() + 1


@pytest.fixture(autouse=True)
def one_thread() -> None:
    # For each test, as some run commands that change it for the whole process.
    # Tiny networks spend all their time waking threads otherwise.
    torch.set_num_threads(int(os.environ.get("DIFFIR_TEST_THREADS", "1")))


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    # `--quiet` is for a whole process, which here runs many commands.
    logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands do not read the settings of whoever runs the tests."""
    monkeypatch.setattr("platformdirs.user_config_dir", lambda *_, **__: tmp_path / "conf")


@pytest.fixture
def whole_reports() -> None:
    """Ask for it to have the curves of a training drawn and its FLOPs counted."""


@pytest.fixture(autouse=True)
def short_reports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "whole_reports" not in request.fixturenames:
        _shorten_reports(monkeypatch)


def _shorten_reports(patch: pytest.MonkeyPatch) -> None:
    """Leave out what takes longer than a tiny training."""
    patch.setattr("diffir_cli.training.log.draw_curves", lambda *_paths: True)
    nothing = contextlib.nullcontext(SimpleNamespace(get_total_flops=lambda: 0))
    patch.setattr("diffir_cli.training.pace.FlopCounterMode", lambda **_options: nothing)
    patch.setattr("diffir_cli.runtime.clock._CPU_SIDE", 64)


@pytest.fixture
def tiny() -> ModelConfig:
    return TINY


@pytest.fixture
def s1(tiny: ModelConfig) -> DiffIRS1:
    return DiffIRS1(tiny).eval()


@pytest.fixture
def s2(tiny: ModelConfig) -> DiffIRS2:
    return DiffIRS2(tiny).eval()


@pytest.fixture
def s2_file(s2: DiffIRS2, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, s2, {"name": "tiny"})
    return path


@pytest.fixture
def s1_file(s1: DiffIRS1, tmp_path: Path) -> Path:
    path = tmp_path / "tiny-s1.safetensors"
    save_weights(path, s1, {"name": "tiny-s1"})
    return path


@pytest.fixture(scope="session")
def trained_stage1(cropped_photos: Path) -> Path:
    """The folder of a run that trained a tiny stage 1, which no test may change."""
    from tests.training_helpers import make_recipe, run_training

    out = cropped_photos.with_name("stage1")
    with quick_training():
        run_training(make_recipe(cropped_photos), out)
    return out


@pytest.fixture
def stage1(trained_stage1: Path, tmp_path: Path) -> Path:
    """Weights of a tiny stage 1."""
    return Path(shutil.copytree(trained_stage1, tmp_path / "stage1")) / "tiny.safetensors"


@pytest.fixture(scope="session")
def cropped_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small sharp pictures, in a folder that no test may change."""
    return crop_photos(tmp_path_factory.mktemp("cropped") / "photos")


@pytest.fixture
def photos(cropped_photos: Path, tmp_path: Path) -> Path:
    """A folder of three small sharp pictures."""
    return Path(shutil.copytree(cropped_photos, tmp_path / "photos"))


@contextlib.contextmanager
def quick_training() -> Iterator[None]:
    """For fixtures of a module or a session, which are older than those of a test."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        _shorten_reports(patch)
        yield


def crop_photos(folder: Path) -> Path:
    """A new folder with three crops of a photo, 192×160 pixels each."""
    folder.mkdir()
    truth = Image.open(DATA / "lighthouse-truth.webp").convert("RGB")
    for number, (top, left) in enumerate([(0, 0), (200, 100), (400, 200)]):
        truth.crop((left, top, left + 192, top + 160)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of 20×12 pixels."""
    path = tmp_path / "photo.png"
    Image.fromarray(noise_image(12, 20)).save(path)
    return path


@pytest.fixture
def inpaint_file(tmp_path: Path) -> Path:
    config = dataclasses.replace(
        TINY, scale=1, tail=Tail.CONV, in_channels=4, residual=False, refinement_blocks=0
    )
    save_weights(tmp_path / "inpaint.safetensors", DiffIRS2(config), {})
    return tmp_path / "inpaint.safetensors"


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder of pictures of several kinds, with a folder below it."""
    folder = tmp_path / "album"
    (folder / "below").mkdir(parents=True)
    Image.fromarray(noise_image(12, 20)).save(folder / "a.png")
    Image.fromarray(noise_image(16, 16, seed=1)).save(folder / "b.jpg")
    Image.fromarray(noise_image(9, 13, 4, seed=2)).save(folder / "c.webp", lossless=True)
    Image.fromarray(noise_image(8, 8, 1, seed=3)).save(folder / "below" / "a.png")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


@pytest.fixture
def store(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket, as a file system of fsspec."""
    import s3fs

    for name, value in store_environment(s3_server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DIFFIR_HOME", str(tmp_path / "home"))
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    files.mkdir(BUCKET)
    yield files
    files.rm(BUCKET, recursive=True)


@pytest.fixture
def uploaded(store: Any, album: Path) -> str:
    """The album, in the store."""
    store.put(f"{album}/", f"{BUCKET}/album/", recursive=True)
    store.pipe_file(f"{BUCKET}/album/.hidden/x.png", (album / "a.png").read_bytes())
    store.pipe_file(f"{BUCKET}/album/notes.txt", b"no picture")
    return f"s3://{BUCKET}/album"


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes of `--workers` not load torch each; in other tests they are new ones."""
    from tests.processes import ForkedWorkers

    monkeypatch.setattr("multiprocessing.get_context", lambda *_method: ForkedWorkers())


@pytest.fixture
def restore(s2_file: Path) -> Any:
    """Runs `diffir restore` with the tiny network."""

    def run(source: Path, out: Path, *arguments: object) -> Result:
        return run_cli("restore", source, "-w", s2_file, "-o", out, *arguments)

    return run


@pytest.fixture
def batch(s2_file: Path) -> Any:
    """Runs `diffir batch` with the tiny network."""

    def run(*arguments: object) -> Result:
        return run_cli("batch", "-w", s2_file, "-d", "cpu", *arguments)

    return run


def store_environment(address: str) -> dict[str, str]:
    """What a process must know of the S3 server at `address`."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def noise_image(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    shape = (height, width, channels) if channels > 1 else (height, width)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def run_cli(*arguments: object) -> Result:
    from diffir_cli.cli import app

    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeeded(result: Result) -> Result:
    """What a command printed, if it was a success."""
    assert result.exit_code == 0, result.output
    return result


def noise_folder(path: Path, *names: str) -> Path:
    """A new folder with small pictures of these names."""
    path.mkdir()
    for number, name in enumerate(names):
        Image.fromarray(noise_image(24, 24, seed=number)).save(path / name)
    return path


def evaluated(*arguments: object) -> dict[str, Any]:
    return json.loads(succeeded(run_cli("evaluate", *arguments, "--json")).stdout)
