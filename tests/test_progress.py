"""How far the work is: shares that grow, that cost nothing, and a bar where a person looks."""

from __future__ import annotations

import itertools
import os
import pty
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from diffir_cli import Restorer
from diffir_cli.imaging import Picture
from diffir_cli.models.diffir.networks import DiffIRS2, DIRformer
from diffir_cli.models.diffir.streaming.dirformer import StreamingDIRformer
from diffir_cli.models.progress import Meter, counted, part_of
from diffir_cli.models.resshift.family import FAMILY
from diffir_cli.options import AlphaMode, Engine, MemoryLimits, Precision, RunOptions
from diffir_cli.runtime.pictures import restore_picture
from diffir_cli.runtime.runner import ModelRunner
from diffir_cli.weights.registry import read_registry
from tests.conftest import noise_image, run_cli
from tests.processes import exit_code, start_command
from tests.resshift_helpers import FILLING, NARROW
from tests.runner_helpers import runner_of


def _shares(restore: Callable[[Callable[[float], None]], object]) -> list[float]:
    """What was reported, which never goes back and ends at 1."""
    seen: list[float] = []
    restore(seen.append)
    assert seen == sorted(seen) and seen[-1] == 1 and seen[0] >= 0
    return seen


@pytest.mark.parametrize("tile", [None, 48])
@pytest.mark.parametrize("kind", ["diffir", "resshift"])
def test_shares_grow_evenly_and_change_no_pixel(
    kind: str, tile: int | None, s2: DiffIRS2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffir_cli.models.diffir.model.strip_elements", lambda: 8 * 8 * 100)
    limits = MemoryLimits(tile=tile, overlap=16)
    if kind == "diffir":
        runner = runner_of(s2, "cpu", Precision.FP32, limits=limits)
    else:
        runner = ModelRunner(FAMILY.build(NARROW), RunOptions("cpu", Precision.FP32, limits=limits))
    lq = noise_image(64, 100)
    results: list[Any] = []
    seen = _shares(lambda progress: results.append(runner.run(lq, progress=progress)))
    assert len(seen) > 20
    steps = [after - before for before, after in itertools.pairwise([0.0, *seen])]
    # None of them is a large part of the whole; the largest is attention over all places.
    assert max(steps) < 0.35, max(steps)
    expected = runner.run(lq)
    assert np.array_equal(results[0].pixels, expected.pixels)
    assert results[0].tile == expected.tile == (tile or 0)


@pytest.mark.parametrize("name", ["deblur-lite", "inpaint-lite", "sr-x4-lite"])
def test_the_share_of_embedded_networks_is_all_of_the_work(name: str) -> None:
    """The products that the strips report are those that were expected, whatever the network."""
    config = read_registry()[name].model
    network = DIRformer(config).eval()
    seen: list[float] = []
    streaming = StreamingDIRformer(network, torch.float32, 20_000, seen.append)
    side = 8 * config.multiple
    lq, ipr = torch.rand(1, config.in_channels, side, side), torch.rand(1, config.ipr_dim)
    streaming(lq, ipr)
    assert streaming._meter is not None
    assert streaming._meter.done == pytest.approx(streaming._meter.total, rel=1e-3)
    assert seen[-1] == pytest.approx(1, rel=1e-3) and len(seen) > 20


def test_windows_of_the_deconvolution_prior_are_reported() -> None:
    from diffir_cli.models.diffir.priors import windows

    seen = _shares(lambda progress: windows.with_prior(torch.rand(1, 3, 64, 1000), 2, progress))
    # The first kernel, and each of the windows.
    assert len(seen) == 4


def test_a_network_that_fills_holes_and_the_plain_modules_report_too(s2: DiffIRS2) -> None:
    mask = np.zeros((40, 30), bool)
    mask[10:20, 5:9] = True
    filling = ModelRunner(FAMILY.build(FILLING), RunOptions("cpu", Precision.FP32))
    _shares(lambda progress: filling.run(noise_image(40, 30), mask=mask, progress=progress))
    plain = runner_of(s2, "cpu", Precision.FP32, engine=Engine.REFERENCE)
    _shares(lambda progress: plain.run(noise_image(16, 16), progress=progress))


def test_transparency_through_the_network_is_a_half_of_the_work(s2: DiffIRS2) -> None:
    alpha = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = Picture(noise_image(16, 16), alpha)
    runner = runner_of(s2, "cpu", Precision.FP32)
    seen = _shares(
        lambda progress: restore_picture(
            runner, picture, alpha=AlphaMode.NETWORK, progress=progress
        )
    )
    assert 0.5 in seen


def test_what_has_to_be_done_again_is_reported_again(
    s2: DiffIRS2, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = StreamingDIRformer.__call__, []

    def overflow(self: StreamingDIRformer, *arguments: torch.Tensor) -> torch.Tensor:
        hq = real(self, *arguments)
        calls.append(self.dtype)
        return hq if self.dtype is torch.float32 else hq * torch.inf

    monkeypatch.setattr(StreamingDIRformer, "__call__", overflow)
    seen: list[float] = []
    runner_of(s2, "cpu", Precision.BF16).run(noise_image(16, 16), progress=seen.append)
    assert calls == [torch.bfloat16, torch.float32]
    assert seen != sorted(seen) and seen[-1] == 1


def test_the_api_reports_and_an_exception_of_the_caller_ends_the_work(s2_file: Path) -> None:
    restorer = Restorer("sr", str(s2_file), device="cpu")
    lq = noise_image(32, 32)
    plain = restorer.restore(lq)
    kept: list[Any] = []
    _shares(lambda progress: kept.append(restorer.restore(lq, progress=progress)))
    assert np.array_equal(kept[0], plain)
    _shares(lambda progress: restorer.restore(Image.fromarray(lq), progress=progress))

    class Enough(Exception):  # noqa: N818
        pass

    def stop(share: float) -> None:
        if share > 0.3:
            raise Enough

    with pytest.raises(Enough):
        restorer.restore(lq, progress=stop)
    assert np.array_equal(restorer.restore(lq), plain)


def test_hooks_are_gone_behind_the_work_even_if_it_fails() -> None:
    model = FAMILY.build(NARROW)

    def stop(_share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ModelRunner(model, RunOptions("cpu", Precision.FP32)).run(
            noise_image(16, 16), progress=stop
        )
    assert not any(module._forward_hooks for module in model.network.modules())


def test_parts_and_pieces_add_up() -> None:
    assert part_of(None, 0.0, 1.0) is None
    seen: list[float] = []
    half = part_of(seen.append, 0.5, 1.0)
    assert half is not None
    meter, layer = Meter(half, 4), nn.Linear(1, 1)
    with counted({layer: 3}, meter):
        layer(torch.zeros(1))
        meter.add(1)
        meter.add(7)
    layer(torch.zeros(1))
    assert seen == [0.875, 1.0, 1.0]


def _on_a_terminal(folder: Path, *arguments: object) -> tuple[str, str]:
    """What a command writes to stdout, and to the terminal that its stderr is."""
    ours, theirs = pty.openpty()
    process = start_command(
        *arguments,
        stdout=folder / "stdout",
        stderr=Path(os.ttyname(theirs)),
        environment={"COLUMNS": "120", "TERM": "xterm"},
    )
    pieces: list[bytes] = []
    reader = threading.Thread(target=lambda: pieces.extend(_read_to_the_end(ours)))
    reader.start()
    code = exit_code(process)
    os.close(theirs)
    reader.join()
    os.close(ours)
    shown = b"".join(pieces)
    assert code == 0, shown
    stdout = (folder / "stdout").read_text(encoding="utf-8")
    return stdout, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def _read_to_the_end(terminal: int) -> Iterator[bytes]:
    with suppress(OSError):
        while piece := os.read(terminal, 65536):
            yield piece


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_person_at_a_terminal_sees_a_bar_and_nobody_else(s2_file: Path, tmp_path: Path) -> None:
    Image.fromarray(noise_image(96, 96)).save(tmp_path / "in.png")
    use = ("restore", tmp_path / "in.png", "-w", s2_file, "--task", "sr", "-d", "cpu")
    out = ("-o", tmp_path / "out.png", "--overwrite")
    stdout, shown = _on_a_terminal(tmp_path, *use, *out)
    assert not stdout
    assert "restoring in.png" in shown and "100%" in shown and "out.png: 384×384" in shown
    for silent in (("-q",), ("--json",)):
        stdout, shown = _on_a_terminal(tmp_path, *use, *out, *silent)
        assert not shown and bool(stdout) == (silent == ("--json",))
    piped = run_cli(*use, *out)
    assert piped.exit_code == 0 and "restoring" not in piped.stderr
    folder = ("batch", tmp_path / "in.png", "-w", s2_file, "--task", "sr", "-d", "cpu")
    _, shown = _on_a_terminal(tmp_path, *folder, "-o", tmp_path / "results")
    # The line of the picture in work, which is whole before all pictures are.
    assert re.search(r"in\.png [━╸╺ ]+100%", shown), shown
    _, shown = _on_a_terminal(tmp_path, *folder, "-o", tmp_path / "more", "--no-progress")
    assert "%" not in shown
