"""`diffir batch --ray`: the bytes of one machine, even if one of several dies on the way."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffir_cli.batch.batch import make_plan
from diffir_cli.batch.cluster import Cluster, run_on_ray
from diffir_cli.batch.naming import Naming
from diffir_cli.batch.plan import Job
from diffir_cli.batch.request import Request
from diffir_cli.batch.work import Outcome, Work
from diffir_cli.imaging.source import PictureOptions
from diffir_cli.options import RunOptions, Task
from diffir_cli.weights.locate import locate_weights
from tests.batch_helpers import BUCKET, objects, tree
from tests.conftest import noise_image, run_cli, store_environment, succeeded
from tests.processes import exit_code, start_command

ray: Any = pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore"), pytest.mark.xdist_group("ray")]
PICTURES = 40


@contextmanager
def started(s3_server: str, machines: int) -> Iterator[Any]:
    """A cluster of some machines, as far as Ray can tell, which know of the object store."""
    with pytest.MonkeyPatch.context() as patch:
        # Its processes have the environment of the moment at which they are started.
        for name, value in store_environment(s3_server).items():
            patch.setenv(name, value)
        made = importlib.import_module("ray.cluster_utils").Cluster(
            initialize_head=True, head_node_args={"num_cpus": 2}
        )
        for _ in range(machines - 1):
            made.add_node(num_cpus=2)
        made.wait_for_nodes()
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture(scope="module")
def machine(s3_server: str) -> Iterator[Any]:
    """One cluster for all tests that leave it as it was."""
    with started(s3_server, 1) as made:
        yield made


@pytest.fixture
def cluster(machine: Any) -> Iterator[Any]:
    """That cluster, for one driver."""
    try:
        yield machine
    finally:
        ray.shutdown()


@pytest.fixture
def crowd(tmp_path: Path) -> Path:
    folder = tmp_path / "crowd"
    folder.mkdir()
    for number in range(PICTURES):
        Image.fromarray(noise_image(24, 30, seed=number)).save(folder / f"{number:02}.png")
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


def test_a_machine_that_dies_on_the_way_costs_no_picture(
    crowd: Path, s3_server: str, s2_file: Path, tmp_path: Path
) -> None:
    alone, out = tmp_path / "alone", tmp_path / "out"
    arguments = ("batch", crowd, "-w", s2_file, "-d", "cpu", "--threads", 1, "-o")
    assert run_cli(*arguments, alone).exit_code == 3
    expected = tree(alone)
    assert len(expected) == PICTURES
    killed = threading.Event()

    def kill() -> None:
        deadline = time.monotonic() + 120
        while len(tree(out)) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        pair.remove_node(pair.worker_nodes.copy().pop(), allow_graceful=False)
        killed.set()

    with started(s3_server, 2) as pair:
        killer = threading.Thread(target=kill)
        killer.start()
        result = run_cli(*arguments, out, "--ray", pair.address, "--ray-workers", 2)
        killer.join()
    assert result.exit_code == 3, result.output
    assert "bad.png: not a supported image" in result.stderr
    assert killed.is_set()
    assert tree(out) == expected
    assert not list(out.glob("*.part"))
    lines = (out / ".diffir-journal.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == PICTURES + 1
    # And the journal is that of any other run.
    again = run_cli(*arguments, out)
    assert f"{PICTURES} pictures were finished before" in again.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:1", "foo", "ray://"])
def test_a_cluster_that_is_not_there_is_one_error(
    address: str, crowd: Path, batch: Any, tmp_path: Path
) -> None:
    result = batch(crowd, "-o", tmp_path / "out", "--ray", address)
    assert result.exit_code == 5, result.output
    assert f"no Ray cluster at {address}" in result.stderr


def test_machines_read_and_write_an_object_store(
    crowd: Path, store: Any, cluster: Any, s2_file: Path, tmp_path: Path
) -> None:
    for path in sorted(crowd.iterdir())[6:]:
        path.unlink()
    alone = tmp_path / "alone"
    arguments = ("batch", "-w", s2_file, "-d", "cpu", "--threads", 1)
    assert run_cli(*arguments, crowd, "-o", alone).exit_code == 0
    for path in crowd.iterdir():
        # Letters that patterns are made of.
        store.put_file(str(path), f"{BUCKET}/crowd [1]/{path.name}")
    place = f"s3://{BUCKET}"
    on_ray = ("--ray", cluster.address, "--ray-workers", 1)
    succeeded(run_cli(*arguments, f"{place}/crowd [1]", "-o", f"{place}/out [?]", *on_ray))
    assert objects(store, "out [?]") == tree(alone)
    assert not [key for key in store.find(f"{BUCKET}/out [?]") if key.endswith(".part")]
    again = run_cli(*arguments, f"{place}/crowd [1]", "-o", f"{place}/out [?]")
    assert "6 pictures were finished before" in again.stderr


@dataclasses.dataclass(frozen=True)
class DeadlyWork(Work):
    """Work that ends the process which does it, until it has ended so many."""

    deaths: Path = Path()
    most: int = 0

    def digest(self) -> str:
        if os.getpid() != int((self.deaths / "driver").read_text()):
            found = len(list(self.deaths.glob("death-*")))
            if found < self.most:
                (self.deaths / f"death-{found}").touch()
                os._exit(1)
        return super().digest()


@dataclasses.dataclass
class Run:
    """Jobs for a cluster of one actor, and what became of them."""

    jobs: list[Job]
    work: DeadlyWork
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)

    def on(self, cluster: Any, stop: threading.Event) -> None:
        where = Cluster(cluster.address, workers=1)
        run_on_ray(self.jobs, self.work, where, stop, self.outcomes.append)


@pytest.fixture
def run(crowd: Path, s2_file: Path, tmp_path: Path) -> Run:
    (tmp_path / "driver").write_text(str(os.getpid()))
    (crowd / "bad.png").unlink()
    for path in sorted(crowd.iterdir())[4:]:
        path.unlink()
    weights = locate_weights(str(s2_file), Task.SR)
    work = DeadlyWork(
        Task.SR, weights, PictureOptions(), RunOptions("cpu", threads=1), deaths=tmp_path
    )
    naming = Naming("{stem}", Task.SR, "tiny", 4)
    (tmp_path / "out").mkdir()
    plan = make_plan(Request((str(crowd),), tmp_path / "out", naming, work))
    return Run(plan.remaining.todo, work)


def test_a_picture_whose_actor_dies_goes_to_another_and_is_given_up_after_four(
    run: Run, cluster: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first picture ends four actors, and the second one the next."""
    run.work = dataclasses.replace(run.work, most=5)
    with caplog.at_level(logging.WARNING, "diffir_cli"):
        run.on(cluster, threading.Event())
    assert len(list(tmp_path.glob("death-*"))) == 5
    assert caplog.text.count("crashed: starting it again") == 4
    first, *others = (outcome.error for outcome in run.outcomes)
    assert "crashed 4 workers" in first and others == [""] * 3
    assert len(tree(tmp_path / "out")) == 3


def test_a_stop_finishes_what_actors_are_at_and_begins_nothing_else(
    run: Run, cluster: Any, tmp_path: Path
) -> None:
    stop = threading.Event()

    class Stopping(list[Outcome]):
        def append(self, outcome: Outcome) -> None:
            super().append(outcome)
            stop.set()

    run.outcomes = Stopping()
    run.on(cluster, stop)
    # The first, and the one that its actor had been given behind it.
    assert [outcome.error for outcome in run.outcomes] == ["", ""]
    assert len(tree(tmp_path / "out")) == 2
    assert not list((tmp_path / "out").glob("*.part"))


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_what_actors_are_at(
    kind: signal.Signals, crowd: Path, cluster: Any, s2_file: Path, tmp_path: Path
) -> None:
    out, stderr = tmp_path / "out", tmp_path / "stderr"
    options = ("-w", s2_file, "-d", "cpu", "--threads", 1, "--ray", cluster.address, "-o", out)
    run = start_command("batch", crowd, *options, stdout=Path(os.devnull), stderr=stderr)
    while len(tree(out)) < 3 and run.is_alive():
        time.sleep(0.005)
    assert run.pid
    os.kill(run.pid, kind)
    assert exit_code(run) == 130, stderr.read_text(encoding="utf-8")
    assert "not begun" in stderr.read_text(encoding="utf-8")
    assert 3 <= len(tree(out)) < PICTURES
    assert not list(out.glob("*.part"))


@pytest.mark.parametrize("share", [("--gpus-per-worker", 1), ("--threads", 99)])
def test_a_share_that_no_machine_has_is_refused(
    share: tuple[Any, ...], crowd: Path, s2_file: Path, tmp_path: Path
) -> None:
    arguments = ("-w", s2_file, "-o", tmp_path / "out", "--ray", "auto", *share)
    try:
        result = run_cli("batch", crowd, *arguments)
    finally:
        ray.shutdown()
    assert result.exit_code == 5, result.output
    assert "the cluster has no machine with" in result.stderr
