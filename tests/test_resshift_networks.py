"""The networks of ResShift: shapes, masks, memory, precision, files and cost."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffir_cli.errors import CheckpointError
from diffir_cli.models.resshift import checkpoint, inferred_config
from diffir_cli.models.resshift.checkpoint import Component
from diffir_cli.models.resshift.config import (
    BICUBIC_X4,
    DEBLUR,
    FACE,
    INPAINT,
    REALSR_V1,
    REALSR_V3,
    REALSR_X2,
    RELEASED,
    SINSR,
    MaskRule,
    ResShiftConfig,
)
from diffir_cli.models.resshift.cost import (
    CODEBOOK,
    DECODER,
    DENOISER,
    ENCODER,
    count_cost,
    count_parameters,
)
from diffir_cli.models.resshift.networks import ResShift, SwinUNet, VQAutoencoder, vq_autoencoder
from diffir_cli.models.resshift.networks.resshift import with_mask
from diffir_cli.models.resshift.networks.swin_layer import (
    WindowAttention,
    from_windows,
    relative_position_index,
    shift_mask,
    to_windows,
)
from diffir_cli.models.resshift.networks.swin_unet import timestep_embedding
from tests.processes import growth_of, in_own_process
from tests.resshift_golden import arrays, keys

NARROW = ResShiftConfig(
    scale=2,
    steps=3,
    width=8,
    multipliers=(1, 2),
    blocks=(2, 1),
    swin_dim=8,
    heads=2,
    window=4,
    resolution=16,
    groups=4,
    ae_width=8,
    ae_multipliers=(1, 2),
    ae_blocks=(1, 2),
    codes=64,
)
MASKED = replace(NARROW, scale=1, takes_mask=True)
PIXELS = replace(NARROW, latent=False, scale=1, unshuffle=2, extractor_width=4)


@pytest.fixture
def model() -> ResShift:
    return ResShift.of(NARROW).eval()


def _lq(config: ResShiftConfig, height: int, width: int) -> Tensor:
    return 2 * torch.rand(1, config.lq_channels, height, width) - 1


def _noise(model: ResShift, lq: Tensor) -> Tensor:
    fields, *shape = model.noise_shape(*lq.shape[2:])
    return torch.randn(fields, len(lq), *shape)


def _restored(model: ResShift, lq: Tensor) -> Tensor:
    with torch.no_grad():
        return model(lq, _noise(model, lq))


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
    legacy = SwinUNet(replace(NARROW, multipliers=(1,), blocks=(1,))).eval()
    standard = SwinUNet(replace(legacy.config, mask=MaskRule.STANDARD)).eval()
    standard.load_state_dict(legacy.state_dict())
    x, lq = torch.randn(1, 3, 32, 32), _lq(NARROW, 32, 32)
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
@pytest.mark.parametrize("config", [NARROW, MASKED, PIXELS], ids=["latent", "masked", "pixels"])
def test_images_of_any_proportions_are_restored(
    config: ResShiftConfig, size: tuple[int, int]
) -> None:
    model = ResShift.of(config).eval()
    height, width = (side * config.lq_stride for side in size)
    restored = _restored(model, _lq(config, height, width))
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
    model = ResShift.of(NARROW).eval()
    lq = _lq(NARROW, 16, 16)
    noise = _noise(model, lq)
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
    lq = _lq(NARROW, 8, 16)
    noise = _noise(model, lq)
    with torch.no_grad():
        first, second = model(lq, noise), model(lq, noise)
        other = model(lq, _noise(model, lq))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_model_starts_from_the_bicubic_enlargement_of_its_input() -> None:
    model = ResShift.of(replace(PIXELS, scale=2, unshuffle=2))
    lq = _lq(NARROW, 8, 8)
    expected = F.interpolate(lq, scale_factor=2, mode="bicubic", align_corners=False)
    assert torch.equal(model.encode(lq), expected)


def test_holes_are_blanked_and_the_mask_follows_the_image() -> None:
    lq, mask = _lq(NARROW, 8, 8), torch.zeros(1, 1, 8, 8)
    mask[..., 2:4] = 1
    read = with_mask(lq, mask)
    assert torch.equal(read[:, 3:], 2 * mask - 1)
    assert (read[:, :3, :, 2:4] == -1).all()
    assert torch.equal(read[:, :3, :, 4:], lq[..., 4:])


# The autoencoder


def test_attention_in_chunks_equals_plain_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = vq_autoencoder.GlobalAttention(NARROW, 8).eval()
    feature = torch.randn(2, 8, 6, 10)
    with torch.no_grad():
        plain = attention(feature)
        for scores in (1, 60 * 7, 60 * 60):
            monkeypatch.setattr(vq_autoencoder, "_MOST_SCORES", scores)
            torch.testing.assert_close(attention(feature), plain)


def test_attention_over_all_positions_equals_its_formula() -> None:
    attention = vq_autoencoder.GlobalAttention(NARROW, 8).eval()
    feature = torch.randn(1, 8, 4, 6)
    with torch.no_grad():
        normed = attention.norm(feature)
        q, k, v = (part(normed).flatten(2)[0] for part in (attention.q, attention.k, attention.v))
        attended = v @ (q.T @ k / 8**0.5).softmax(dim=1).T
        expected = feature + attention.proj_out(attended.view(1, 8, 4, 6))
        torch.testing.assert_close(attention(feature), expected)


def test_attention_never_holds_its_scores() -> None:
    # The scores of 24,576 positions would take 2.25 GiB.
    assert in_own_process(_taken_by_attention) < 2**28


def _taken_by_attention() -> int:
    attention = vq_autoencoder.GlobalAttention(REALSR_V3, 64).eval()
    feature = torch.randn(1, 64, 192, 128)
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
    autoencoder = VQAutoencoder(NARROW).eval()
    z = torch.randn(1, 3, 4, 4)
    with torch.no_grad():
        rounded = autoencoder.quantize(z)
        assert torch.equal(autoencoder.quantize(rounded), rounded)
        assert torch.equal(autoencoder.decode(z), autoencoder.decode(rounded, quantise=False))
        assert not torch.equal(autoencoder.decode(z), autoencoder.decode(z, quantise=False))


# Files


def _official(model: ResShift, rule: MaskRule = MaskRule.LEGACY) -> dict[str, Tensor]:
    """The state dict of a narrow denoiser with the buffers that official files have."""
    state = dict(model.denoiser.state_dict())
    for name, module in model.denoiser.named_modules():
        if name.endswith(".attn"):
            state[f"{name}.relative_position_index"] = relative_position_index(4)
        if getattr(module, "shift", 0):
            side = 16 if name.startswith(("input_blocks.1.", "output_blocks.2.")) else 8
            state[f"{name}.attn_mask"] = shift_mask(side, side, 4, rule)
    return state


@pytest.mark.parametrize("rule", MaskRule)
def test_a_file_shows_which_rule_its_masks_follow(model: ResShift, rule: MaskRule) -> None:
    state = _official(model, rule)
    for name in state:
        if name.endswith("attn_mask"):
            state[name] = 0.7 * state[name]  # as averaging of weights leaves it
    loaded = checkpoint.load_denoiser(state, NARROW)
    assert loaded.config.mask is rule
    assert inferred_config.infer_config(NARROW, state).mask is rule
    assert checkpoint.load_denoiser(model.denoiser.state_dict(), NARROW).config.mask is NARROW.mask


def test_masks_of_no_known_rule_are_refused(model: ResShift) -> None:
    state = _official(model)
    name = next(name for name in state if name.endswith("attn_mask"))
    for broken in (state[name].transpose(0, 1), torch.ones(4, 10**6, 1), torch.zeros(0, 4, 4)):
        with pytest.raises(CheckpointError, match="no known rule"):
            checkpoint.load_denoiser(state | {name: broken}, NARROW)
    mixed = state | {name: shift_mask(16, 16, 4, MaskRule.STANDARD)}
    with pytest.raises(CheckpointError, match="no known rule"):
        checkpoint.load_denoiser(mixed, NARROW)
    del state[name]
    with pytest.raises(CheckpointError, match="shifts the windows of 4 blocks"):
        checkpoint.load_denoiser(state, NARROW)


def test_positions_numbered_in_another_way_are_refused(model: ResShift) -> None:
    state = _official(model)
    name = next(name for name in state if name.endswith("relative_position_index"))
    state[name] = state[name].flip(0)
    with pytest.raises(CheckpointError, match="unknown way"):
        checkpoint.load_denoiser(state, NARROW)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_training_wrappers_do_not_matter(model: ResShift, prefix: str) -> None:
    assert model.autoencoder is not None
    denoiser = {prefix + name: value for name, value in _official(model).items()}
    autoencoder = {prefix + name: value for name, value in model.autoencoder.state_dict().items()}
    assert checkpoint.recognise(denoiser) is Component.DENOISER
    assert checkpoint.recognise(autoencoder) is Component.AUTOENCODER
    loaded = checkpoint.load_model(
        NARROW, {Component.DENOISER: denoiser, Component.AUTOENCODER: autoencoder}
    )
    lq = _lq(NARROW, 8, 8)
    noise = _noise(model, lq)
    with torch.no_grad():
        assert torch.equal(loaded(lq, noise), model(lq, noise))


def test_other_state_dicts_are_not_recognised() -> None:
    assert checkpoint.recognise({"dirformer.patch_embed.weight": torch.zeros(1)}) is None
    assert checkpoint.recognise({}) is None


@pytest.mark.parametrize("config", [NARROW, MASKED, PIXELS], ids=["latent", "masked", "pixels"])
def test_the_configuration_follows_from_names_and_shapes(config: ResShiftConfig) -> None:
    model = ResShift.of(config)
    # The fields that names and shapes do not show.
    base = ResShiftConfig(steps=3, groups=4)
    autoencoder = None
    if model.autoencoder is not None:
        autoencoder = model.autoencoder.state_dict()
    else:
        base = replace(PIXELS, width=16, multipliers=(1,), blocks=(1,), heads=4, resolution=8)
    assert inferred_config.infer_config(base, _official(model), autoencoder) == config


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unet_sr_x4", REALSR_V3),
        ("unet_deblur", DEBLUR),
        ("unet_inpaint", INPAINT),
        ("unet_faceir", FACE),
    ],
)
def test_official_names_and_shapes_show_the_task(name: str, expected: ResShiftConfig) -> None:
    state = _shapes_of(name)
    assert inferred_config.infer_config(ResShiftConfig(), state) == expected
    assert inferred_config.infer_config(FACE, state) == expected
    if expected is REALSR_V3:
        assert inferred_config.infer_config(REALSR_V1, state) == REALSR_V1


def _shapes_of(name: str) -> dict[str, Tensor]:
    """The state dict of an official denoiser without its values and buffers."""
    return {
        entry["key"]: torch.empty(entry["shape"], device="meta")
        for entry in keys(name)
        if entry["kind"] == "param"
    }


def test_the_face_autoencoder_is_known_by_its_shapes() -> None:
    state = {
        entry["key"]: torch.empty(entry["shape"], device="meta") for entry in keys("vq_f8_face512")
    }
    found = inferred_config.infer_config(replace(REALSR_V3, scale=1), autoencoder=state)
    assert found == FACE


def test_what_does_not_fit_is_named_in_one_error(model: ResShift) -> None:
    state = dict(model.denoiser.state_dict())
    del state["out.2.bias"]
    state["extra"] = torch.zeros(1)
    state["out.0.weight"] = torch.zeros(9)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_denoiser(state, NARROW, "file.pth")
    assert caught.value.message == (
        "file.pth does not fit the SwinUNet: 1 missing (out.2.bias); 1 surplus (extra); "
        "1 misshaped (out.0.weight [9] instead of [8])"
    )


def test_a_file_that_is_cut_off_shows_no_configuration(model: ResShift) -> None:
    state = _official(model)
    del state["out.2.weight"]
    with pytest.raises(CheckpointError, match="does not show which ResShift network"):
        inferred_config.infer_config(NARROW, state)


def test_infinite_numbers_and_missing_networks_are_refused(model: ResShift) -> None:
    state = dict(model.denoiser.state_dict())
    with pytest.raises(CheckpointError, match="lacks the autoencoder"):
        checkpoint.load_model(NARROW, {Component.DENOISER: state})
    state["out.2.bias"] = torch.full((3,), float("nan"))
    with pytest.raises(CheckpointError, match="NaN or infinite numbers"):
        checkpoint.load_denoiser(state, NARROW)


@pytest.mark.parametrize("name", ["unet_sr_x4", "unet_deblur", "unet_inpaint", "unet_faceir"])
def test_official_names_of_the_denoiser_are_ours(name: str) -> None:
    config = inferred_config.infer_config(ResShiftConfig(), _shapes_of(name))
    with torch.device("meta"):
        ours = {key: list(value.shape) for key, value in SwinUNet(config).state_dict().items()}
    listed = keys(name)
    assert ours == {entry["key"]: entry["shape"] for entry in listed if entry["kind"] == "param"}
    buffers = {entry["key"] for entry in listed if entry["kind"] == "buffer"}
    assert all(key.endswith((".relative_position_index", ".attn_mask")) for key in buffers)


@pytest.mark.parametrize(("name", "config"), [("vq_f4", REALSR_V3), ("vq_f8_face512", FACE)])
def test_official_names_of_the_autoencoder_are_ours(name: str, config: ResShiftConfig) -> None:
    with torch.device("meta"):
        ours = {key: list(value.shape) for key, value in VQAutoencoder(config).state_dict().items()}
    assert ours == {entry["key"]: entry["shape"] for entry in keys(name)}


# Cost


@pytest.mark.parametrize(
    ("config", "denoiser", "autoencoder"),
    [
        (REALSR_V3, 118_593_583, 55_322_782),
        (DEBLUR, 118_714_255, 55_322_782),
        (INPAINT, 118_714_399, 55_322_782),
        (FACE, 118_931_604, 77_009_115),
    ],
    ids=["sr", "deblur", "inpaint", "face"],
)
def test_parameters_are_counted_as_officially(
    config: ResShiftConfig, denoiser: int, autoencoder: int
) -> None:
    assert count_parameters(config) == {"denoiser": denoiser, "autoencoder": autoencoder}


def test_parameters_of_the_parts_of_the_autoencoder_are_counted_as_officially() -> None:
    for config, expected in (
        (REALSR_V3, (22_337_411, 32_960_771, 24_576, 12, 12)),
        (FACE, (33_028_680, 43_947_523, 32_768, 72, 72)),
    ):
        with torch.device("meta"):
            parts = VQAutoencoder(config).children()
        counted = tuple(sum(value.numel() for value in part.parameters()) for part in parts)
        assert counted == expected


def _giga(count: int) -> float:
    return round(count / 1e9, 2)


@pytest.mark.parametrize(
    ("config", "side", "step", "encode", "decode", "quantise"),
    [
        (REALSR_V3, 64, 50.66, 172.62, 335.29, 0.10),
        (DEBLUR, 256, 51.35, 172.62, 335.29, 0.10),
        (INPAINT, 256, 51.36, 172.62, 335.29, 0.10),
        (FACE, 512, 53.69, 248.37, 482.71, 0.13),
    ],
    ids=["sr", "deblur", "inpaint", "face"],
)
def test_mult_adds_of_each_network_are_those_of_the_reference(
    config: ResShiftConfig, side: int, step: float, encode: float, decode: float, quantise: float
) -> None:
    parts = count_cost(config, side, side).parts
    assert _giga(parts[DENOISER].mult_adds // config.evaluations) == step
    assert _giga(parts[ENCODER].mult_adds) == encode
    assert _giga(parts[DECODER].mult_adds) == decode
    assert _giga(parts[CODEBOOK].mult_adds) == quantise
    assert _giga(parts[ENCODER].attention) == 17.18


def test_mult_adds_of_attention_are_counted_apart() -> None:
    steps = count_cost(REALSR_V3, 64, 64).parts[DENOISER]
    assert _giga(steps.attention // REALSR_V3.evaluations) == 0.54


def test_mult_adds_of_a_result_grow_with_the_steps_and_faster_than_its_pixels() -> None:
    assert round(count_cost(REALSR_V3, 64, 64).exact / 1e9) == 711
    assert round(count_cost(REALSR_V1, 64, 64).exact / 1e9) == 1268
    assert round(count_cost(SINSR, 64, 64).exact / 1e9) == 559
    tera = [round(count_cost(REALSR_V3, side, side).exact / 1e12, 2) for side in (128, 256)]
    assert tera == [3.25, 19.62]
    assert count_cost(REALSR_V3, 65, 1) == count_cost(REALSR_V3, 128, 64)


def test_every_released_configuration_has_a_network() -> None:
    for config in RELEASED.values():
        assert set(count_parameters(config)) == {"denoiser", "autoencoder"}
    assert BICUBIC_X4 == REALSR_V3
    assert count_parameters(REALSR_X2)["denoiser"] > count_parameters(REALSR_V3)["denoiser"]
    assert set(count_parameters(PIXELS)) == {"denoiser"}


def test_a_configuration_needs_no_torch() -> None:
    program = (
        "import sys, diffir_cli.models.resshift.config, diffir_cli.models.resshift.diffusion;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
