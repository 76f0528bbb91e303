"""ResShift through the command line: files, windows, noise of the place, colours, bad input."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from diffir_cli.errors import WeightsError
from diffir_cli.imaging import Picture, write_picture
from diffir_cli.models.base import Window
from diffir_cli.models.resshift.family import FAMILY
from diffir_cli.models.resshift.model import ResShiftModel
from diffir_cli.options import ColorFix, Engine, MemoryLimits, Precision, RunOptions, Task
from diffir_cli.runtime.color import fix_colors
from diffir_cli.runtime.runner import ModelRunner
from tests.conftest import noise_image, run_cli, succeeded
from tests.download_helpers import home as home
from tests.resshift_helpers import FILLING, NARROW, entry, official_files
from tests.web import served


def smooth_image(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 255 / height, columns * 255 / width, 0 * rows + 90.0], axis=2)
    return image.astype(np.uint8)


@pytest.fixture
def model() -> ResShiftModel:
    return FAMILY.build(NARROW)


@pytest.fixture
def registry(tmp_path: Path, home: Path) -> Path:  # noqa: ARG001
    """A registry with a narrow model, whose files are installed by hand."""
    files = official_files(tmp_path, NARROW)
    path = tmp_path / "registry.toml"
    path.write_text(entry("narrow-x4", NARROW, files))
    for file in files.values():
        succeeded(run_cli("download-weights", "narrow-x4", "--from", file, "--registry", path))
    return path


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (17, 16), (64, 48)])
def test_an_image_of_any_size_is_restored(size: tuple[int, int], model: ResShiftModel) -> None:
    found = ModelRunner(model, RunOptions("cpu", Precision.FP32)).run(noise_image(*size))
    assert found.pixels.shape == (4 * size[0], 4 * size[1], 3) and not found.tile


def test_a_seed_means_the_same_noise_in_every_window(
    model: ResShiftModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = model.context(torch.rand(1, 3, 32, 48), 3)
    seen: list[torch.Tensor] = []

    def network(lq: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        seen.append(noise)
        return lq.repeat_interleave(4, 2).repeat_interleave(4, 3)

    monkeypatch.setattr(model.network, "forward", network)
    model.restore(context.lq[..., 16:32, 16:48], Window(16, 16, 32, 16), context)
    assert torch.equal(seen[0], context.noise[..., 16:32, 16:48])
    again = model.context(torch.rand(1, 3, 32, 48), 3)
    assert torch.equal(again.noise, context.noise)
    assert not torch.equal(model.context(context.lq, 4).noise, context.noise)


def test_tiles_agree_with_the_whole_where_they_overlap(
    model: ResShiftModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain without borders of its own: what differs could only be noise or placement."""

    def network(lq: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        # Latents of 1/4 of the output have as many places as LQ.
        return (lq + 0.1 * noise[0]).repeat_interleave(4, 2).repeat_interleave(4, 3)

    monkeypatch.setattr(model.network, "forward", network)
    lq = smooth_image(128, 160)
    results = [
        ModelRunner(model, RunOptions("cpu", Precision.FP32, limits=MemoryLimits(0, tile))).run(lq)
        for tile in (0, 64, 96)
    ]
    assert [result.tile for result in results] == [0, 64, 96]
    for other in results[1:]:
        assert np.abs(other.pixels.astype(int) - results[0].pixels).max() <= 1


def test_what_overflows_in_half_precision_is_done_again_in_fp32(
    model: ResShiftModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    lq = noise_image(16, 16)
    expected = ModelRunner(model, RunOptions("cpu", Precision.FP32)).run(lq)
    real = ResShiftModel.restore

    def overflow(self: ResShiftModel, *args: Any) -> torch.Tensor:
        hq = real(self, *args)
        return hq if self.dtype is torch.float32 else hq * torch.inf

    monkeypatch.setattr(ResShiftModel, "restore", overflow)
    found = ModelRunner(model, RunOptions("cpu", Precision.BF16)).run(lq)
    assert found.redone == 1 and np.array_equal(found.pixels, expected.pixels)


def test_bf16_is_near_fp32_and_leaves_the_fp32_weights_alone(model: ResShiftModel) -> None:
    half = model.to(torch.device("cpu"), torch.bfloat16, Engine.STREAMING)
    assert half.network is not model.network
    assert all(each.dtype is torch.float32 for each in model.network.parameters())
    lq = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        # Before the codebook, where a near tie may fall on the other side.
        exact, rough = (one.network.encode(one.context(lq, 0).lq) for one in (model, half))
    assert 0 < float((exact - rough).abs().max()) < 0.1 * float(exact.std())


def test_outside_a_mask_the_result_is_the_input_to_the_bit() -> None:
    runner = ModelRunner(FAMILY.build(FILLING), RunOptions("cpu", Precision.FP32))
    lq, mask = noise_image(40, 30), np.zeros((40, 30), bool)
    mask[10:20, 5:9] = True
    found = runner.run(lq, mask=mask).pixels
    assert np.array_equal(found[~mask], lq[~mask]) and not np.array_equal(found[mask], lq[mask])


def test_the_network_sees_no_pixel_of_a_hole() -> None:
    runner = ModelRunner(FAMILY.build(FILLING), RunOptions("cpu", Precision.FP32))
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    lq = noise_image(20, 20)
    other = np.where(mask[:, :, None], 255 - lq, lq)
    first, second = (runner.run(image, mask=mask).pixels for image in (lq, other))
    assert np.array_equal(first[mask], second[mask])


@pytest.mark.parametrize("arguments", [ColorFix.WAVELET, ColorFix.ADAIN])
def test_a_shift_of_colours_is_taken_back_and_detail_is_kept(arguments: ColorFix) -> None:
    made = torch.Generator().manual_seed(0)
    lq = 0.3 + 0.3 * torch.rand(1, 3, 40, 40, generator=made)
    enlarged = torch.nn.functional.interpolate(lq, scale_factor=4, mode="bicubic")
    detail = 0.02 * torch.randn(enlarged.shape, generator=made)
    detail -= detail.mean((2, 3), keepdim=True)
    shifted = 0.9 * enlarged + torch.tensor([0.08, -0.05, 0.02]).view(1, 3, 1, 1) + detail
    before = (shifted - enlarged).mean((2, 3)).abs().max()
    fixed = fix_colors(shifted.clone(), lq, arguments)
    assert (fixed - enlarged).mean((2, 3)).abs().max() < 0.05 * before
    # Half of the detail or more is still there.
    assert ((fixed - enlarged) * detail).mean() > 0.5 * detail.square().mean()


def test_colours_are_the_same_whatever_the_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    lq, hq = torch.rand(1, 3, 50, 20), torch.rand(1, 3, 200, 80)
    whole = fix_colors(hq.clone(), lq, ColorFix.WAVELET)
    monkeypatch.setattr("diffir_cli.runtime.color.STRIP_ROWS", 64)
    torch.testing.assert_close(fix_colors(hq.clone(), lq, ColorFix.WAVELET), whole)
    assert fix_colors(hq, lq, ColorFix.NONE) is hq


def test_every_command_takes_the_model(registry: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    write_picture(Picture(noise_image(16, 20)), pictures / "a.png")
    chosen = ("-w", "narrow-x4", "--registry", registry, "--task", "realsr")
    out = tmp_path / "out.png"
    for more in ((), ("--color-fix", "none"), ("--precision", "bf16")):
        succeeded(run_cli("restore", pictures / "a.png", "-o", out, *chosen, *more, "--overwrite"))
        with Image.open(out) as image:
            assert image.size == (80, 64)
    done = run_cli("batch", pictures, "-o", tmp_path / "results", *chosen)
    assert done.exit_code == 0 and len(list((tmp_path / "results").glob("*.png"))) == 1
    cost = run_cli(
        *("benchmark", "-w", "narrow-x4", "--registry", registry, "--cost-only"),
        *("--input-size", "16x16"),
    )
    assert cost.exit_code == 0 and "denoiser" in cost.output, cost.output


@pytest.mark.usefixtures("registry")
def test_files_are_kept_as_safetensors_with_their_configuration(home: Path) -> None:
    found = sorted((home / "cache" / "weights").rglob("*.safetensors"))
    assert len(found) == 2
    names = [set(load_file(path)) for path in found]
    assert any("time_embed.0.weight" in each for each in names)
    assert any("quantize.embedding.weight" in each for each in names)


def test_a_component_in_the_place_of_the_other_is_refused(tmp_path: Path) -> None:
    files = official_files(tmp_path, NARROW)
    swapped = {"denoiser": files["autoencoder"], "autoencoder": files["denoiser"]}
    with pytest.raises(Exception, match="holds the autoencoder of a ResShift model, where its"):
        FAMILY.load(swapped, NARROW)


def test_files_of_other_networks_and_damaged_ones_are_not_installed(
    registry: Path, tmp_path: Path, s2_file: Path
) -> None:
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes((tmp_path / "denoiser.pth").read_bytes()[:5000])
    for file in (s2_file, damaged):
        done = run_cli("download-weights", "narrow-x4", "--from", file, "--registry", registry)
        assert done.exit_code == 4, done.output
        assert done.output.count("error:") == 1 and "hint:" in done.output


def test_a_model_that_cannot_be_exported_is_refused(registry: Path, tmp_path: Path) -> None:
    done = run_cli("export", "narrow-x4", tmp_path / "x.onnx", "--registry", registry)
    assert done.exit_code == 4 and "resshift model, which cannot be exported" in done.output


def test_a_network_for_aligned_faces_says_so_of_other_pictures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = replace(NARROW, scale=1, resolution=128)
    runner = ModelRunner(FAMILY.build(config), RunOptions("cpu", Precision.FP32))
    assert runner.info.tasks == {Task.FACE}
    runner.run(noise_image(20, 24))
    assert "made for aligned crops of 512×512 pixels, not for 24×20" in caplog.text


def test_a_file_that_cannot_be_had_leaves_the_model_missing_and_is_named(
    tmp_path: Path, home: Path
) -> None:
    files = official_files(tmp_path, NARROW)
    write_picture(Picture(noise_image(8, 8)), tmp_path / "in.png")
    registry = tmp_path / "registry.toml"
    with served(files["denoiser"].read_bytes()) as web:
        urls = {"denoiser": web.url("ok"), "autoencoder": web.url("gone")}
        registry.write_text(entry("narrow-x4", NARROW, files, urls))
        done = run_cli(
            *("restore", tmp_path / "in.png", "-o", tmp_path / "out.png"),
            *("-w", "narrow-x4", "--registry", registry),
        )
    assert done.exit_code == 4 and "autoencoder" in done.stderr
    assert not (tmp_path / "out.png").exists()
    assert not list((home / "cache" / "weights").rglob("*.part"))


def test_levels_in_holes_are_rounded_and_not_truncated(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = ModelRunner(FAMILY.build(FILLING), RunOptions("cpu", Precision.FP32))
    level = torch.full((1, 3, 8, 8), 99.7 / 255)
    monkeypatch.setattr(runner, "_run", lambda *_args: (level.clone(), 0, 0))
    found = runner.run(noise_image(8, 8), mask=np.ones((8, 8), bool)).pixels
    assert (found == 100).all()


def test_colours_cannot_be_fixed_in_holes() -> None:
    with pytest.raises(WeightsError, match="a hole has no colours of the input"):
        ModelRunner(
            FAMILY.build(FILLING), RunOptions("cpu", Precision.FP32, color_fix=ColorFix.WAVELET)
        )


def test_what_is_there_of_a_model_can_be_removed(registry: Path, home: Path) -> None:
    folders = home / "cache" / "weights"
    shutil.rmtree(next(folders.glob("autoencoder-*")))
    for code in (0, 4):
        done = run_cli("download-weights", "narrow-x4", "--remove", "--registry", registry)
        assert done.exit_code == code, done.output
    assert "of narrow-x4 is not on this machine" in done.output
    assert not list(folders.glob("denoiser-*"))


def test_one_pixel_takes_the_colour_of_its_input_by_adain() -> None:
    lq = torch.rand(1, 3, 1, 1)
    for scale in (1, 4):
        fixed = fix_colors(torch.rand(1, 3, scale, scale), lq, ColorFix.ADAIN)
        torch.testing.assert_close(fixed, lq.expand(1, 3, scale, scale))
