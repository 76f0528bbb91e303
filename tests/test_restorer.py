"""One image through the engine: any size, one seed one picture, fp32 and bf16."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from diffir_cli.errors import DeviceError
from diffir_cli.models.diffir.model import initial_noise
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.models.diffir.official_names import our_name, without_duplicates
from diffir_cli.models.diffir.streaming.dirformer import StreamingDIRformer
from diffir_cli.options import MemoryLimits, Precision
from diffir_cli.runtime.device import choose_device
from diffir_cli.runtime.runner import ModelRunner
from diffir_cli.util.device_memory import available_bytes
from diffir_cli.util.padding import pad
from diffir_cli.weights.registry import read_registry
from tests.conftest import TINY, noise_image
from tests.golden_fill import arrays, official_state
from tests.runner_helpers import runner_of


def _restorer(model: DiffIRS1 | DiffIRS2) -> ModelRunner:
    return runner_of(model, "cpu", Precision.FP32)


@pytest.mark.parametrize("height", [1, 2, 7, 8, 17])
@pytest.mark.parametrize("width", [1, 9, 16])
def test_an_image_of_any_size_is_restored(height: int, width: int, s2: DiffIRS2) -> None:
    hq = _restorer(s2).restore(noise_image(height, width))
    assert hq.shape == (4 * height, 4 * width, 3)
    assert hq.dtype == np.uint8


def test_a_size_that_fits_is_not_padded(s2: DiffIRS2) -> None:
    lq = noise_image(16, 24)
    tensor = torch.tensor(lq).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = s2(tensor, initial_noise(s2.config, 3))
    found = _restorer(s2).run_tensor(tensor, seed=3)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_same_seed_gives_the_same_bytes_alone_or_again(s2: DiffIRS2) -> None:
    restorer = _restorer(s2)
    first = restorer.restore(noise_image(16, 16, seed=1), seed=7)
    restorer.restore(noise_image(8, 24, seed=2), seed=8)
    np.testing.assert_array_equal(restorer.restore(noise_image(16, 16, seed=1), seed=7), first)


def test_the_seed_reaches_the_picture(s2: DiffIRS2) -> None:
    with torch.no_grad():
        for parameter in s2.denoiser.parameters():
            parameter.mul_(8)
    lq = torch.rand(1, 3, 16, 16)
    restorer = _restorer(s2)
    assert not torch.equal(restorer.run_tensor(lq, seed=1), restorer.run_tensor(lq, seed=2))


def test_values_are_rounded_half_to_even_and_clamped(s2: DiffIRS2) -> None:
    restorer = _restorer(s2)
    levels = torch.tensor([-0.2, 0.5 / 255, 1.5 / 255, 2.5 / 255, 1.3]).expand(1, 3, 4, 5).clone()
    restorer._run = lambda *_args: (levels, 0, 0)  # type: ignore[method-assign]
    assert restorer.restore(noise_image(1, 1))[0, :, 0].tolist() == [0, 0, 2, 2, 255]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40))
def test_padding_mirrors_without_the_edge_as_torch_does(height: int, width: int) -> None:
    image = torch.rand(1, 3, height, width)
    right, below = -width % 8, -height % 8
    if right >= width or below >= height:
        return  # torch refuses to mirror more than the image; ours mirrors again
    assert torch.equal(pad(image, TINY.multiple), F.pad(image, (0, right, 0, below), "reflect"))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_padding_with_a_mask_mirrors_with_the_edge_as_numpy_does(height: int, width: int) -> None:
    image = torch.rand(1, 4, height, width)
    after = ((0, 0), (0, 0), (0, -height % 8), (0, -width % 8))
    np.testing.assert_array_equal(
        pad(image, 8, repeat_edge=True), np.pad(image, after, "symmetric")
    )


def test_a_stage_1_network_needs_the_truth_which_is_padded_along(s1: DiffIRS1) -> None:
    hq = _restorer(s1).restore(noise_image(9, 13), gt=noise_image(36, 52))
    assert hq.shape == (36, 52, 3)
    with pytest.raises(ValueError, match="ground truth"):
        _restorer(s1).restore(noise_image(8, 8))


def test_inpainting_equals_the_official_composition() -> None:
    """mask·prediction + (1 − mask)·image of the golden vectors, truncated to 8 bit."""
    data = arrays("inpaint_celeba")
    state = official_state("inpaint_celeba")
    kept, _ = without_duplicates(Path("golden"), state)
    model = DiffIRS2(read_registry()["inpaint-celeba"].model)
    model.load_state_dict({our_name(key): value for key, value in kept.items()})
    restorer = _restorer(model)
    image = (data["image"][0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    mask = data["mask"][0, 0].numpy() > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffir_cli.models.diffir.model.initial_noise", lambda *_a: data["x_T"])
        found = restorer.restore(image, mask=mask)
    expected = (data["inpainted"][0].clamp(0, 1) * 255).permute(1, 2, 0)
    # An official value just under a level may be just over it here.
    near = (expected - expected.round()).abs() < 2e-3
    exact = torch.from_numpy(found.astype(int)) == expected.floor().int()
    assert bool((exact | near).all())
    np.testing.assert_array_equal(found[~mask], image[~mask])


def test_a_mask_belongs_to_inpainting_alone(s2: DiffIRS2) -> None:
    with pytest.raises(ValueError, match="takes a mask"):
        _restorer(s2).restore(noise_image(8, 8), mask=np.ones((8, 8), bool))


def test_bf16_is_close_to_fp32(s2: DiffIRS2) -> None:
    lq = torch.rand(1, 3, 24, 24)
    exact = _restorer(s2).run_tensor(lq)
    lower = runner_of(s2, "cpu", Precision.BF16).run_tensor(lq)
    assert lower.dtype == torch.float32
    assert 0 < (lower - exact).abs().max() < 0.05


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_every_scale_gives_its_size(scale: int) -> None:
    model = DiffIRS2(dataclasses.replace(TINY, scale=scale))
    assert _restorer(model).restore(noise_image(20, 33)).shape == (20 * scale, 33 * scale, 3)


def test_the_free_memory_of_this_machine_is_known() -> None:
    available = available_bytes(torch.device("cpu"))
    assert available is None or 2**20 < available < 2**50


@pytest.mark.parametrize("requested", ["gpu", "cuda:x", "cuda:99", "tpu"])
def test_a_device_that_is_not_there_is_refused(requested: str, s2: DiffIRS2) -> None:
    with pytest.raises(DeviceError) as caught:
        runner_of(s2, requested)
    assert caught.value.exit_code == 5
    assert caught.value.hint


@pytest.mark.parametrize(
    ("requested", "reason"), [(Precision.FP16, "overflows"), (Precision.TF32, "needs CUDA")]
)
def test_a_precision_that_a_cpu_does_badly_is_refused(
    requested: Precision, reason: str, s2: DiffIRS2
) -> None:
    with pytest.raises(DeviceError, match=reason) as caught:
        runner_of(s2, "cpu", requested)
    assert "--precision" in (caught.value.hint or "")


@pytest.mark.parametrize("tile", [0, 32])
def test_what_overflows_in_half_precision_is_done_again_in_fp32_and_counted(
    tile: int, s2: DiffIRS2, monkeypatch: pytest.MonkeyPatch
) -> None:
    lq = noise_image(32, 64)
    expected = runner_of(
        s2, "cpu", Precision.FP32, limits=MemoryLimits(tile=tile, overlap=8)
    ).restore(lq)
    whole = StreamingDIRformer.__call__

    def overflow(self: StreamingDIRformer, lq: torch.Tensor, ipr: torch.Tensor) -> torch.Tensor:
        hq: torch.Tensor = whole(self, lq, ipr)
        return hq if self.dtype == torch.float32 else hq * torch.inf

    monkeypatch.setattr(StreamingDIRformer, "__call__", overflow)
    restorer = runner_of(s2, "cpu", Precision.BF16, limits=MemoryLimits(tile=tile, overlap=8))
    found = restorer.run(lq)
    np.testing.assert_array_equal(found.pixels, expected)
    assert found.redone == (3 if tile else 1)


def test_automatic_devices_are_tried_from_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"cuda", "xpu", "mps"}
    monkeypatch.setattr("diffir_cli.runtime.device._count", lambda kind: int(kind in there))
    found = []
    while True:
        found.append(choose_device("auto").type)
        if not there:
            break
        there.discard(found[-1])
    assert found == ["cuda", "xpu", "mps", "cpu"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_gives_the_picture_of_the_cpu(s2: DiffIRS2) -> None:
    lq = noise_image(40, 56)
    expected = _restorer(s2).restore(lq).astype(int)
    found = runner_of(s2, "cuda", Precision.FP32).restore(lq).astype(int)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP16, Precision.TF32])
def test_a_gpu_in_lower_precision_is_close_to_the_cpu(precision: Precision, s2: DiffIRS2) -> None:
    lq = torch.rand(1, 3, 40, 56)
    exact = _restorer(s2).run_tensor(lq)
    found = runner_of(s2, "cuda", precision).run_tensor(lq).cpu()
    assert (found - exact).abs().max() < 0.05
