"""`diffir batch --ray`: the bytes of one machine, even if one of several dies on the way."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.batch_helpers import tree
from tests.conftest import noise_image, run_cli

ray: Any = pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]
PICTURES = 40


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two machines, as far as Ray can tell."""
    made = importlib.import_module("ray.cluster_utils").Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2}
    )
    made.add_node(num_cpus=2)
    made.wait_for_nodes()
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def crowd(tmp_path: Path) -> Path:
    folder = tmp_path / "crowd"
    folder.mkdir()
    for number in range(PICTURES):
        Image.fromarray(noise_image(24, 30, seed=number)).save(folder / f"{number:02}.png")
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


def test_a_machine_that_dies_on_the_way_costs_no_picture(
    crowd: Path, cluster: Any, s2_file: Path, tmp_path: Path
) -> None:
    alone, out = tmp_path / "alone", tmp_path / "out"
    how = ("batch", crowd, "-w", s2_file, "-d", "cpu", "--threads", 1, "-o")
    assert run_cli(*how, alone).exit_code == 3
    expected = tree(alone)
    assert len(expected) == PICTURES
    victim = next(node for node in cluster.worker_nodes)
    killed = threading.Event()

    def kill() -> None:
        deadline = time.monotonic() + 120
        while len(tree(out)) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        cluster.remove_node(victim, allow_graceful=False)
        killed.set()

    killer = threading.Thread(target=kill)
    killer.start()
    result = run_cli(*how, out, "--ray", cluster.address, "--ray-workers", 2)
    killer.join()
    assert result.exit_code == 3, result.output
    assert "bad.png is no image" in result.stderr
    assert killed.is_set()
    assert tree(out) == expected
    assert not list(out.glob("*.part"))
    lines = (out / ".diffir-journal.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == PICTURES + 1
    # And the journal is that of any other run.
    again = run_cli(*how, out)
    assert f"{PICTURES} pictures were finished before" in again.stderr


def test_a_cluster_that_is_not_there_is_one_error(
    crowd: Path, s2_file: Path, tmp_path: Path
) -> None:
    how = ("-w", s2_file, "-o", tmp_path / "out", "--ray", "127.0.0.1:1")
    result = run_cli("batch", crowd, *how)
    assert result.exit_code == 5
    assert "no Ray cluster at 127.0.0.1:1" in result.stderr
