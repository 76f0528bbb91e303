"""Files of ResShift: prefixes, masks, configurations, official names, and what does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diffir_cli.errors import CheckpointError
from diffir_cli.models.resshift import checkpoint, inferred_config
from diffir_cli.models.resshift.checkpoint import Component
from diffir_cli.models.resshift.config import (
    DEBLUR,
    FACE,
    INPAINT,
    REALSR_V1,
    REALSR_V3,
    MaskRule,
    ResShiftConfig,
)
from diffir_cli.models.resshift.networks import ResShift, SwinUNet, VQAutoencoder
from diffir_cli.models.resshift.networks.swin_layer import relative_position_index, shift_mask
from tests.resshift_golden import keys
from tests.resshift_helpers import MASKED, PIXELS, SMALL, random_lq, random_noise


@pytest.fixture
def model() -> ResShift:
    return ResShift.of(SMALL).eval()


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
    loaded = checkpoint.load_denoiser(state, SMALL)
    assert loaded.config.mask is rule
    assert inferred_config.infer_config(SMALL, state).mask is rule
    assert checkpoint.load_denoiser(model.denoiser.state_dict(), SMALL).config.mask is SMALL.mask


def test_masks_of_no_known_rule_are_refused(model: ResShift) -> None:
    state = _official(model)
    name = next(name for name in state if name.endswith("attn_mask"))
    for broken in (state[name].transpose(0, 1), torch.ones(4, 10**6, 1), torch.zeros(0, 4, 4)):
        with pytest.raises(CheckpointError, match="no known rule"):
            checkpoint.load_denoiser(state | {name: broken}, SMALL)
    mixed = state | {name: shift_mask(16, 16, 4, MaskRule.STANDARD)}
    with pytest.raises(CheckpointError, match="no known rule"):
        checkpoint.load_denoiser(mixed, SMALL)
    del state[name]
    with pytest.raises(CheckpointError, match="shifts the windows of 4 blocks"):
        checkpoint.load_denoiser(state, SMALL)


def test_positions_numbered_in_another_way_are_refused(model: ResShift) -> None:
    state = _official(model)
    name = next(name for name in state if name.endswith("relative_position_index"))
    state[name] = state[name].flip(0)
    with pytest.raises(CheckpointError, match="unknown way"):
        checkpoint.load_denoiser(state, SMALL)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_training_wrappers_do_not_matter(model: ResShift, prefix: str) -> None:
    assert model.autoencoder is not None
    denoiser = {prefix + name: value for name, value in _official(model).items()}
    autoencoder = {prefix + name: value for name, value in model.autoencoder.state_dict().items()}
    assert checkpoint.recognise(denoiser) is Component.DENOISER
    assert checkpoint.recognise(autoencoder) is Component.AUTOENCODER
    loaded = checkpoint.load_model(
        SMALL, {Component.DENOISER: denoiser, Component.AUTOENCODER: autoencoder}
    )
    lq = random_lq(SMALL, 8, 8)
    noise = random_noise(model, lq)
    with torch.no_grad():
        assert torch.equal(loaded(lq, noise), model(lq, noise))


def test_other_state_dicts_are_not_recognised() -> None:
    assert checkpoint.recognise({"dirformer.patch_embed.weight": torch.zeros(1)}) is None
    assert checkpoint.recognise({}) is None


@pytest.mark.parametrize("config", [SMALL, MASKED, PIXELS], ids=["latent", "masked", "pixels"])
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
        checkpoint.load_denoiser(state, SMALL, "file.pth")
    assert caught.value.message == (
        "file.pth does not fit the SwinUNet: 1 missing (out.2.bias); 1 surplus (extra); "
        "1 misshaped (out.0.weight [9] instead of [8])"
    )


def test_a_file_that_is_cut_off_shows_no_configuration(model: ResShift) -> None:
    state = _official(model)
    del state["out.2.weight"]
    with pytest.raises(CheckpointError, match="does not show which ResShift network"):
        inferred_config.infer_config(SMALL, state)


def test_infinite_numbers_and_missing_networks_are_refused(model: ResShift) -> None:
    state = dict(model.denoiser.state_dict())
    with pytest.raises(CheckpointError, match="lacks the autoencoder"):
        checkpoint.load_model(SMALL, {Component.DENOISER: state})
    state["out.2.bias"] = torch.full((3,), float("nan"))
    with pytest.raises(CheckpointError, match="NaN or infinite numbers"):
        checkpoint.load_denoiser(state, SMALL)


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
