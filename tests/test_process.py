"""Threads follow what the process may use and sleep soon while they wait; freed memory is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffir_cli.util.device_memory import _free_of_container
from diffir_cli.util.process import SPIN, cpu_limit, cpu_quota, keep_freed_memory, prepare_process

CHOICES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CHOICES:
        # Set first, so that what a test sets is taken back behind it.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def groups(tmp_path: Path, membership: str, **files: str) -> tuple[Path, Path]:
    """A file of memberships and a tree of control groups; `__` stands for `/` and `_` for `.`."""
    (tmp_path / "cgroup").write_text(membership)
    mounts = tmp_path / "mounts"
    mounts.mkdir()
    for name, text in files.items():
        path = mounts / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name.replace("cpu_", "cpu.")).write_text(text + "\n")
    return tmp_path / "cgroup", mounts


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/", {"cpu_max": "200000 100000"}, 2.0),
        ("0::/", {"cpu_max": "max 100000"}, None),
        ("0::/a/b\n", {"a__b__cpu_max": "max 100000", "a__cpu_max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"a__b__cpu_max": "400000 100000", "a__cpu_max": "50000 100000"}, 0.5),
        # A container that does not see its own group finds the root of its mount.
        ("0::/docker/1f\n", {"cpu_max": "300000 100000"}, 3.0),
        (
            "4:cpu,cpuacct:/job\n",
            {"cpu__job__cpu_cfs_quota_us": "250000", "cpu__job__cpu_cfs_period_us": "100000"},
            2.5,
        ),
        (
            "4:cpu,cpuacct:/job\n1:memory:/x\n",
            {
                "cpu,cpuacct__job__cpu_cfs_quota_us": "-1",
                "cpu,cpuacct__job__cpu_cfs_period_us": "100000",
            },
            None,
        ),
        ("0::/", {"cpu_max": "nonsense"}, None),
        ("", {}, None),
        ("what", {}, None),
    ],
)
def test_the_smallest_quota_of_all_groups_counts(
    membership: str, files: dict[str, str], expected: float | None, tmp_path: Path
) -> None:
    assert cpu_quota(*groups(tmp_path, membership, **files)) == expected


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"max": "1000", "current": "700", "stat": "anon 5\ninactive_file 100"}, 400),
        ("0::/\n", {"max": "max", "current": "700", "stat": ""}, None),
        (
            "3:memory:/\n",
            {
                "memory__limit_in_bytes": "1000",
                "memory__usage_in_bytes": "900",
                "memory__stat": "inactive_file 9\ntotal_inactive_file 50",
            },
            150,
        ),
        ("", {}, None),
    ],
)
def test_the_limit_of_a_control_group_leaves_what_is_not_used_or_only_cached(
    membership: str, files: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    (tmp_path / "cgroup").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "mounts" / name.replace("__", "/")
        path = path.with_name(f"memory.{path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert _free_of_container(tmp_path / "cgroup", tmp_path / "mounts") == expected


def test_a_system_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "absent", tmp_path) is None


@pytest.mark.parametrize(("quota", "limit"), [(None, 3), (2.0, 2), (1.5, 2), (0.2, 1), (64.0, 3)])
def test_threads_are_as_many_as_the_process_may_use(
    quota: float | None, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {1, 4, 5}, raising=False)
    monkeypatch.setattr("diffir_cli.util.process.cpu_quota", lambda: quota)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert cpu_limit() == limit
    prepare_process()
    assert os.environ["OMP_NUM_THREADS"] == str(limit)


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    prepare_process()
    assert "GOMP_SPINCOUNT" not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_every_command_sets_a_short_spin_before_torch_is_loaded() -> None:
    code = (
        "import os, sys\n"
        "import diffir_cli.cli\n"
        "app = sys.modules['diffir_cli.cli.app']\n"
        "app.app = lambda: print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))\n"
        "app.main()"
    )
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.split() == ["False", SPIN["GOMP_SPINCOUNT"]]


_REPEATED_ALLOCATIONS = """
import resource
import sys

from diffir_cli.util.process import prepare_process

if sys.argv[1] == "prepared":
    prepare_process()
for turn in range(12):
    if turn == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"1" * 2**22 for _ in range(30)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="another C library than glibc")
def test_memory_that_is_freed_and_taken_again_is_not_fetched_from_the_system_each_time() -> None:
    def faults(arguments: str) -> int:
        command = [sys.executable, "-c", _REPEATED_ALLOCATIONS, arguments]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        return int(subprocess.check_output(command, text=True, env=environment))

    # Thirty blocks of 4 MiB in 8 turns; a fault brings 4 KiB, or more where pages are larger.
    default = faults("default")
    assert faults("prepared") <= default // 2 or default < 100


def test_parameters_of_the_allocator_that_the_user_has_set_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert not keep_freed_memory()
