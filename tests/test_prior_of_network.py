"""The prior of a picture is made in windows, within the memory and the threads that it may take."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from diffir_cli.degradations.motion_blur import shake
from diffir_cli.errors import DeviceError
from diffir_cli.evaluation.metrics import psnr
from diffir_cli.models.diffir.config import ModelConfig, Tail
from diffir_cli.models.diffir.networks import DiffIRS2, DIRformer
from diffir_cli.models.diffir.priors import kernel_estimation
from diffir_cli.models.diffir.priors.windows import (
    deconvolved,
    prior_bytes,
    priors_of_windows,
    threads_within,
    with_prior,
)
from diffir_cli.options import Engine, MemoryLimits, Precision, Task
from tests.conftest import TINY, noise_image
from tests.prior_helpers import CALM, LARGE, PHOTO, levels, tensor
from tests.processes import growth_of, in_own_process
from tests.runner_helpers import runner_of

_GATED = dataclasses.replace(TINY, scale=1, tail=Tail.CONV, in_channels=6, gated=True)


_SEEN = {"in_channels": 6, "scale": 1, "tail": Tail.CONV}


def test_each_window_has_a_kernel_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffir_cli.models.diffir.priors.windows._WINDOW", 256)
    monkeypatch.setattr("diffir_cli.models.diffir.priors.windows._OVERLAP", 32)
    wide = LARGE[300:556]
    halves = [shake(wide, np.random.default_rng(seed), CALM) for seed in (0, 1)]
    lq = np.concatenate([halves[0][:, :256], halves[1][:, 256:]], axis=1)
    found = with_prior(tensor(lq)[None])
    assert found.shape == (1, 6, *lq.shape[:2])
    assert torch.equal(found[0, :3], tensor(lq))
    prior = levels(found[0, 3:])
    for part in (slice(0, 128), slice(384, 512)):
        assert psnr(prior[:, part], wide[:, part]) > psnr(lq[:, part], wide[:, part]) + 0.5


def test_a_window_begins_with_the_kernel_of_its_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffir_cli.models.diffir.priors.windows._WINDOW", 128)
    monkeypatch.setattr("diffir_cli.models.diffir.priors.windows._OVERLAP", 16)
    whole = tensor(shake(PHOTO, np.random.default_rng(0), CALM)[:128])
    window = whole[:, :, :128].contiguous()
    (prior,) = priors_of_windows([window], whole)
    assert not torch.equal(prior, priors_of_windows([window], window)[0])
    assert torch.equal(prior, priors_of_windows([whole[:, :, -128:], window], whole)[1])
    # What training sees of a window is what a picture has there.
    alone = slice(0, 64)
    found = with_prior(whole[None])[0, 3:]
    torch.testing.assert_close(found[:, :, alone], prior[:, :, alone], atol=1e-5, rtol=0)


@pytest.mark.parametrize("height", [*range(64, 74), 127, 128])
def test_a_strip_of_any_height_has_a_prior(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffir_cli.models.diffir.priors.kernel_estimation._ROUNDS", 1)
    monkeypatch.setattr("diffir_cli.models.diffir.priors.kernel_estimation._STIFFEST", 0.1)
    strip = torch.rand(1, 3, height, 1030, generator=torch.Generator().manual_seed(height))
    found = with_prior(strip)
    assert found.shape == (1, 6, height, 1030) and torch.isfinite(found).all()


def test_a_large_picture_is_deconvolved_in_windows_of_a_smaller_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("diffir_cli.models.diffir.priors.windows._LARGEST", 128)
    monkeypatch.setattr("diffir_cli.models.diffir.priors.windows._WINDOW", 128)
    lq = tensor(shake(PHOTO, np.random.default_rng(0), CALM))
    prior = with_prior(lq[None])[0, 3:]
    expected = deconvolved(lq, reduced=2)
    torch.testing.assert_close(prior, expected, atol=1e-4, rtol=0)
    assert not torch.equal(prior, lq)
    # A strip is not reduced so far that no kernel can be estimated.
    strip = with_prior(lq[None, :, :80])[0, 3:]
    assert not torch.equal(strip, lq[:, :80])


@pytest.mark.parametrize(
    ("limits", "side", "fault"),
    [
        (MemoryLimits(2**20, 0), 256, "an image of 256×256 pixels needs"),
        # Tiles would fit.
        (MemoryLimits(48 * 2**20, 64), 768, "estimating the camera shake of 768×768 pixels needs"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_shake_is_looked_for(
    limits: MemoryLimits, side: int, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffir_cli.models.diffir.priors.windows.with_prior", None)
    restorer = runner_of(DiffIRS2(_GATED), "cpu", limits=limits)
    with pytest.raises(DeviceError, match=fault):
        restorer.restore(noise_image(side, side))


def test_a_budget_bounds_how_many_windows_are_worked_on_at_a_time() -> None:
    large = 4000, 3000
    one = prior_bytes(_GATED, *large)
    assert prior_bytes(_GATED, *large, threads=2) > one > 48 * 4000 * 3000
    assert prior_bytes(TINY, *large) == 0
    assert threads_within(*large, one) == 1 and threads_within(*large, 0) == 1
    assert threads_within(*large, None) == torch.get_num_threads()


def _taken_by_a_prior(threads: int, width: int, height: int) -> int:
    # How often something is improved changes the time and not the memory.
    vars(kernel_estimation).update(_ROUNDS=1, _STIFFEST=1)
    with_prior(torch.rand(1, 3, 96, 96), threads)
    small = torch.rand(1, 3, height // 4, width // 4)
    lq = torch.nn.functional.interpolate(small, (height, width), mode="bilinear")
    return growth_of(lambda: with_prior(lq, threads))


@pytest.mark.xdist_group("measurements")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own figures")
@pytest.mark.parametrize(
    ("threads", "width", "height"), [(1, 1000, 800), (2, 1040, 700), (1, 20000, 80)]
)
def test_a_prior_takes_no_more_memory_than_predicted(threads: int, width: int, height: int) -> None:
    predicted = prior_bytes(_GATED, height, width, threads)
    taken: list[int] = []
    # Now and then the allocator keeps 20 MB more than in most runs, and libraries choose other
    # buffers for other processors.
    while not taken or (len(taken) < 3 and min(taken) > 1.25 * predicted):
        taken.append(in_own_process(_taken_by_a_prior, threads, width, height))
    assert 0.4 <= min(taken) / predicted <= 1.25, (taken, predicted)


def test_threads_that_cannot_be_started_are_one_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    restorer, before = runner_of(DiffIRS2(_GATED), "cpu"), torch.get_num_threads()
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(DeviceError, match="not enough memory for estimating the camera shake"):
        restorer.restore(PHOTO)
    assert torch.get_num_threads() == before


def test_threads_that_are_born_later_have_the_usual_number() -> None:
    before, found = torch.get_num_threads(), []
    with_prior(torch.rand(1, 3, 80, 80))
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert found == [before] == [torch.get_num_threads()]


@pytest.mark.parametrize("engine", list(Engine))
def test_a_gated_network_works_in_bf16(engine: Engine) -> None:
    torch.manual_seed(0)
    model, lq = DiffIRS2(_GATED), torch.rand(1, 6, 32, 40)
    exact = runner_of(model, "cpu", Precision.FP32, engine).run_tensor(lq)
    try:
        lower = runner_of(model, "cpu", Precision.BF16, engine).run_tensor(lq)
    except DeviceError as error:
        # OpenVINO has no bf16 kernels where oneDNN is limited to AVX2.
        assert engine is Engine.OPENVINO and error.hint == "use --precision fp32"
        return
    assert lower.dtype == torch.float32
    difference = float((lower - exact).abs().max())
    assert difference < 0.1
    # OpenVINO computes in fp32 on processors without bf16.
    assert difference > 0 or engine is Engine.OPENVINO


def test_a_prior_that_was_made_already_is_taken() -> None:
    torch.manual_seed(0)
    restorer = runner_of(DiffIRS2(_GATED), "cpu")
    lq = shake(PHOTO, np.random.default_rng(0), CALM)
    ready = with_prior(tensor(lq)[None])[0].permute(1, 2, 0).contiguous().numpy()
    here = restorer.restore(lq.astype(np.float32) / 255)
    np.testing.assert_allclose(restorer.restore(ready), here, rtol=0, atol=1e-6)


def test_the_gate_says_how_much_of_the_prior_is_taken() -> None:
    network = DIRformer(_GATED).eval()
    lq, ipr = torch.rand(1, 6, 16, 24), torch.randn(1, _GATED.ipr_dim)
    conv = network.tail[0]
    assert isinstance(conv, torch.nn.Conv2d)
    with torch.no_grad():
        conv.weight.zero_()
        half = network(lq, ipr)
        network.refinement = torch.nn.Identity()  # type: ignore[assignment]
        network.refinement.forward = lambda feature, *_: torch.ones_like(feature)  # type: ignore[method-assign]
        conv.weight[3] = 10.0
        open_gate = network(lq, ipr)
    torch.testing.assert_close(half, (lq[:, :3] + lq[:, 3:]) / 2)
    torch.testing.assert_close(open_gate, lq[:, 3:])


def test_the_number_of_threads_changes_no_prior_and_stays_what_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("diffir_cli.models.diffir.priors.windows._WINDOW", 128)
    monkeypatch.setattr("diffir_cli.models.diffir.priors.windows._OVERLAP", 16)
    photo = np.ascontiguousarray(PHOTO[:128, :200])
    lq = tensor(shake(photo, np.random.default_rng(0), CALM))[None]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(with_prior(lq))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert not torch.equal(found[0][:, 3:], lq)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_a_network_with_a_prior_restores_a_picture_of_any_size() -> None:
    torch.manual_seed(0)
    restorer = runner_of(DiffIRS2(_GATED), "cpu")
    for height, width in ((71, 93), (1, 1), (5, 200)):
        assert restorer.restore(noise_image(height, width)).shape == (height, width, 3)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"in_channels": 6}, "in_channels 6 needs scale 1"),
        ({"gated": True}, "gated needs residual, and coherence_fill or in_channels 6"),
        (_SEEN | {"gated": True, "residual": False}, "gated needs"),
        (_SEEN | {"prefill": True}, "prefill needs"),
    ],
)
def test_a_gate_without_a_prior_is_refused(fields: dict[str, object], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        ModelConfig(**fields)  # type: ignore[arg-type]


def test_a_network_with_a_prior_is_for_deblurring_alone() -> None:
    from diffir_cli.models.diffir.model import info_of

    assert info_of(_GATED).tasks == {Task.DEBLUR}


def test_a_window_larger_than_a_kernel_is_estimated_in_has_a_prior(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("diffir_cli.models.diffir.priors.windows._LARGEST", 64)
    monkeypatch.setattr("diffir_cli.models.diffir.priors.windows._WINDOW", 64)
    window = tensor(shake(PHOTO, np.random.default_rng(0), CALM))[:, :128, :128].contiguous()
    (prior,) = priors_of_windows([window], window)
    assert prior.shape == window.shape and not torch.equal(prior, window)
