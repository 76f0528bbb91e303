"""The table of scripts/measure_peers.py from given times, and its options."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "measure_peers.py"


@pytest.fixture(scope="module")
def peers() -> Any:
    spec = importlib.util.spec_from_file_location("measure_peers", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_engine_is_compared_with_openvino_in_its_own_precision_turn_by_turn(peers: Any) -> None:
    times = {
        "diffir f32": [2.0, 4.0, 3.0, 8.0, 5.0],
        "OpenVINO f32": [1.0, 4.0, 2.0, 4.0, 5.0],
        "diffir bf16": [1.0, 1.0, 1.0, 1.0, 1.0],
        "OpenVINO bf16": [2.0, 2.0, 2.0, 2.0, 2.0],
    }
    assert peers.rows("sr-x4", 64, times, dict.fromkeys(times, 2e-6)) == [
        "| sr-x4 | 64×64 | diffir f32 | 4.000 | 1.50 | 1.00–2.00 | 2.0e-06 |",
        "| sr-x4 | 64×64 | OpenVINO f32 | 4.000 | – | – | 2.0e-06 |",
        "| sr-x4 | 64×64 | diffir bf16 | 1.000 | 0.50 | 0.50–0.50 | 2.0e-06 |",
        "| sr-x4 | 64×64 | OpenVINO bf16 | 2.000 | – | – | 2.0e-06 |",
    ]


def test_an_engine_without_its_peer_has_no_ratio(peers: Any) -> None:
    (line,) = peers.rows("sr-x4", 64, {"diffir bf16": [1.0]}, {"diffir bf16": 0.01})
    assert line == "| sr-x4 | 64×64 | diffir bf16 | 1.000 | – | – | 1.0e-02 |"


def test_one_turn_has_no_spread(peers: Any) -> None:
    assert peers.quartiles([1.5]) == (1.5, 1.5)
    assert peers.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)


def test_the_options_have_defaults_and_refuse_nonsense(
    peers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    options = peers.parse_arguments(["--only", "sr", "--markdown", "peers.md"])
    assert (options.repeats, options.threads) == (7, 2)
    assert (options.only, options.markdown) == ("sr", Path("peers.md"))
    with pytest.raises(SystemExit) as stopped:
        peers.parse_arguments(["--repeats", "0"])
    assert stopped.value.code == 2
    assert "must be at least 1" in capsys.readouterr().err


def test_torch_is_not_loaded_before_threads_are_prepared() -> None:
    program = f"import runpy, sys; runpy.run_path({str(SCRIPT)!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
