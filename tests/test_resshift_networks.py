"""The networks of ResShift: shapes, masks, attention, memory and precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffir_cli.models.resshift.config import REALSR_V3, MaskRule, ResShiftConfig
from diffir_cli.models.resshift.networks import ResShift, SwinUNet, VQAutoencoder, vq_autoencoder
from diffir_cli.models.resshift.networks.resshift import with_mask
from diffir_cli.models.resshift.networks.swin_layer import (
    WindowAttention,
    from_windows,
    shift_mask,
    to_windows,
)
from diffir_cli.models.resshift.networks.swin_unet import timestep_embedding
from tests.processes import growth_of, in_own_process
from tests.resshift_golden import arrays
from tests.resshift_helpers import MASKED, PIXELS, SMALL, random_lq, random_noise


@pytest.fixture
def model() -> ResShift:
    return ResShift.of(SMALL).eval()


def _restored(model: ResShift, lq: Tensor) -> Tensor:
    with torch.no_grad():
        return model(lq, random_noise(model, lq))


# Attention in windows


def test_legacy_masks_equal_those_of_the_released_code() -> None:
    for size, expected in arrays("swin_shift_mask").items():
        height, width = map(int, size.split("x"))
        found = shift_mask(height, width, 8, MaskRule.LEGACY)
        assert torch.equal(found, expected.float())


def test_the_legacy_mask_acts_in_the_last_row_of_windows_alone() -> None:
    mask = shift_mask(16, 24, 8, MaskRule.LEGACY)
    assert not mask[:3].any()
    assert (mask[3:] != 0).any(dim=(1, 2)).all()
    assert torch.equal(mask[3], mask[5])


def test_the_standard_mask_keeps_opposite_borders_apart() -> None:
    height, width, window, shift = 8, 12, 4, 2
    mask = shift_mask(height, width, window, MaskRule.STANDARD)
    row = torch.arange(height)[:, None].expand(height, width).float()
    column = torch.arange(width).expand(height, width).float()
    places = torch.stack([row, column])[None].roll((-shift, -shift), (2, 3))
    tokens = to_windows(places, window)[0]
    distance = (tokens[:, :, None] - tokens[:, None]).abs().amax(dim=-1)
    assert torch.equal(mask != 0, distance >= window)


def test_the_rule_matters_only_where_windows_shift() -> None:
    legacy = SwinUNet(replace(SMALL, multipliers=(1,), blocks=(1,))).eval()
    standard = SwinUNet(replace(legacy.config, mask=MaskRule.STANDARD)).eval()
    standard.load_state_dict(legacy.state_dict())
    x, lq = torch.randn(1, 3, 32, 32), random_lq(SMALL, 32, 32)
    with torch.no_grad():
        found, other = legacy(x, 0, lq), standard(x, 0, lq)
    assert not torch.equal(found, other)
    unshifted = replace(legacy.config, resolution=4)
    same, too = SwinUNet(unshifted), SwinUNet(replace(unshifted, mask=MaskRule.STANDARD))
    too.load_state_dict(same.state_dict())
    with torch.no_grad():
        assert torch.equal(same(x, 0, lq), too(x, 0, lq))


def test_windows_are_cut_row_by_row_and_put_back() -> None:
    feature = torch.arange(2 * 3 * 8 * 12).view(2, 3, 8, 12).float()
    windows = to_windows(feature, 4)
    assert windows.shape == (2, 6, 16, 3)
    assert torch.equal(windows[1, 4, :, 2].view(4, 4), feature[1, 2, 4:8, 4:8])
    assert torch.equal(from_windows(windows, 8, 12), feature)


def test_attention_in_windows_equals_its_formula() -> None:
    attention = WindowAttention(8, 2, 4).eval()
    torch.nn.init.normal_(attention.relative_position_bias_table)
    windows, mask = torch.randn(2, 6, 16, 8), shift_mask(8, 12, 4, MaskRule.STANDARD)
    table = attention.relative_position_bias_table
    expected = torch.empty_like(windows)
    with torch.no_grad():
        q, k, v = attention.qkv(windows).chunk(3, dim=-1)
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            scores = q[..., part] @ k[..., part].transpose(-1, -2) / 4**0.5 + mask
            for one in range(16):
                for other in range(16):
                    down, right = one // 4 - other // 4 + 3, one % 4 - other % 4 + 3
                    scores[..., one, other] += table[7 * down + right, head]
            expected[..., part] = scores.softmax(dim=-1) @ v[..., part]
        torch.testing.assert_close(attention(windows, mask), attention.proj(expected))


def test_the_embedding_of_steps_equals_the_official_one() -> None:
    golden = arrays("timestep_embedding")
    found = timestep_embedding(golden["t"], 160)
    torch.testing.assert_close(found, golden["emb160"], atol=1e-6, rtol=0)


# The denoiser


@pytest.mark.parametrize("size", [(8, 8), (8, 24), (32, 16)])
@pytest.mark.parametrize("config", [SMALL, MASKED, PIXELS], ids=["latent", "masked", "pixels"])
def test_images_of_any_proportions_are_restored(
    config: ResShiftConfig, size: tuple[int, int]
) -> None:
    model = ResShift.of(config).eval()
    height, width = (side * config.lq_stride for side in size)
    restored = _restored(model, random_lq(config, height, width))
    assert restored.shape == (1, 3, config.scale * height, config.scale * width)
    assert restored.isfinite().all()


def test_samples_of_a_batch_do_not_influence_each_other(model: ResShift) -> None:
    lq, x = torch.randn(3, 3, 8, 16), torch.randn(3, 3, 8, 16)
    t = torch.tensor([2, 0, 1])
    with torch.no_grad():
        together = model.denoiser(x, t, lq)
        for place in range(3):
            alone = model.denoiser(x[place : place + 1], int(t[place]), lq[place : place + 1])
            torch.testing.assert_close(together[place : place + 1], alone, atol=1e-5, rtol=1e-5)


def test_sides_that_do_not_fit_are_refused(model: ResShift) -> None:
    x, lq = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match="multiples of 8"):
        model.denoiser(torch.zeros(1, 3, 8, 12), 0, lq)
    with pytest.raises(ValueError, match=r"lq must be \(B, 3, 8, 8\)"):
        model.denoiser(x, 0, torch.zeros(1, 3, 8, 16))
    with pytest.raises(ValueError, match="lq must be"):
        model.denoiser(x, 0, torch.zeros(1, 4, 8, 8))
    assert model.autoencoder is not None
    with pytest.raises(ValueError, match="multiples of 2"):
        model.autoencoder.encode(torch.zeros(1, 3, 7, 8))


def test_bf16_stays_near_fp32() -> None:
    model = ResShift.of(SMALL).eval()
    lq = random_lq(SMALL, 16, 16)
    noise = random_noise(model, lq)
    with torch.no_grad():
        expected = model.sample(model.encode(lq), lq, noise)
        image = model.decode(expected)
        model.denoiser.to(torch.bfloat16)
        assert model.autoencoder is not None
        model.autoencoder.compute_in(torch.bfloat16)
        found = model.sample(model.encode(lq), lq, noise)
        decoded = model.decode(expected)
    for half, full in ((found, expected), (decoded, image)):
        assert half.dtype == torch.float32
        assert 0 < float((half - full).abs().max()) < 0.1 * float(full.std() + 1)
    assert model.autoencoder.quantize.embedding.weight.dtype == torch.float32


def test_equal_noise_gives_equal_images(model: ResShift) -> None:
    lq = random_lq(SMALL, 8, 16)
    noise = random_noise(model, lq)
    with torch.no_grad():
        first, second = model(lq, noise), model(lq, noise)
        other = model(lq, random_noise(model, lq))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_model_starts_from_the_bicubic_enlargement_of_its_input() -> None:
    model = ResShift.of(replace(PIXELS, scale=2, unshuffle=2))
    lq = random_lq(SMALL, 8, 8)
    expected = F.interpolate(lq, scale_factor=2, mode="bicubic", align_corners=False)
    assert torch.equal(model.encode(lq), expected)


def test_holes_are_blanked_and_the_mask_follows_the_image() -> None:
    lq, mask = random_lq(SMALL, 8, 8), torch.zeros(1, 1, 8, 8)
    mask[..., 2:4] = 1
    read = with_mask(lq, mask)
    assert torch.equal(read[:, 3:], 2 * mask - 1)
    assert (read[:, :3, :, 2:4] == -1).all()
    assert torch.equal(read[:, :3, :, 4:], lq[..., 4:])


# The autoencoder


def test_attention_in_chunks_equals_plain_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = vq_autoencoder.GlobalAttention(SMALL, 8).eval()
    feature = torch.randn(2, 8, 6, 10)
    with torch.no_grad():
        plain = attention(feature)
        for scores in (1, 60 * 7, 60 * 60):
            monkeypatch.setattr(vq_autoencoder, "_MOST_SCORES", scores)
            torch.testing.assert_close(attention(feature), plain)


def test_attention_over_all_positions_equals_its_formula() -> None:
    attention = vq_autoencoder.GlobalAttention(SMALL, 8).eval()
    feature = torch.randn(1, 8, 4, 6)
    with torch.no_grad():
        normed = attention.norm(feature)
        q, k, v = (part(normed).flatten(2)[0] for part in (attention.q, attention.k, attention.v))
        attended = v @ (q.T @ k / 8**0.5).softmax(dim=1).T
        expected = feature + attention.proj_out(attended.view(1, 8, 4, 6))
        torch.testing.assert_close(attention(feature), expected)


def test_attention_never_holds_its_scores() -> None:
    # The scores of 12,288 positions would take 0.56 GiB.
    assert in_own_process(_taken_by_attention) < 2**28


def _taken_by_attention() -> int:
    attention = vq_autoencoder.GlobalAttention(REALSR_V3, 64).eval()
    feature = torch.randn(1, 64, 128, 96)
    with torch.no_grad():
        attention(feature[..., :8])
        return growth_of(lambda: attention(feature))


def test_the_search_for_codes_in_chunks_equals_the_plain_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codebook = vq_autoencoder.Codebook(64, 3)
    z = torch.randn(2, 3, 5, 7)
    distances = torch.cdist(z.movedim(1, -1).flatten(0, 2), codebook.embedding.weight)
    expected = distances.argmin(dim=1).view(2, 5, 7)
    assert torch.equal(codebook.indices(z), expected)
    for most in (1, 64 * 9):
        monkeypatch.setattr(vq_autoencoder, "_MOST_DISTANCES", most)
        assert torch.equal(codebook.indices(z), expected)


def test_rounding_a_rounded_latent_changes_nothing() -> None:
    autoencoder = VQAutoencoder(SMALL).eval()
    z = torch.randn(1, 3, 4, 4)
    with torch.no_grad():
        rounded = autoencoder.quantize(z)
        assert torch.equal(autoencoder.quantize(rounded), rounded)
        assert torch.equal(autoencoder.decode(z), autoencoder.decode(rounded, quantise=False))
        assert not torch.equal(autoencoder.decode(z), autoencoder.decode(z, quantise=False))
