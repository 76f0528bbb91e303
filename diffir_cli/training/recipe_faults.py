"""What is wrong with a recipe: values that make no sense, and fields that would have no effect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffir_cli.degradations.kinds import Degradation
from diffir_cli.options import Precision
from diffir_cli.training.families import family_faults
from diffir_cli.training.kinds import LearningRate, PixelLoss
from diffir_cli.training.recipe import OptimizerRecipe, Recipe


def recipe_faults(recipe: Recipe) -> Iterator[str]:
    """What is wrong with values that are of the right type; each fault begins with its field."""
    if not recipe.name or "/" in recipe.name:
        yield f"name must be a plain word, not {recipe.name!r}"
    yield from family_faults(recipe)
    if 0 < recipe.loss_spike_ratio <= 1:
        yield f"loss_spike_ratio must be 0, or more than 1, not {recipe.loss_spike_ratio:g}"
    yield from _schedule_faults(recipe.optimizer)
    yield from _distillation_faults(recipe)
    if recipe.precision not in (Precision.FP32, Precision.BF16):
        yield f"precision must be fp32 or bf16, not {recipe.precision.value}"
    yield from _degradation_faults(recipe)
    yield from _size_faults(recipe)
    if not any(recipe.data.train) and recipe.data.pairs_share < 1:
        yield "data.train must name at least one folder of photos"
    for field_name, folders in (
        ("data.train", recipe.data.train if recipe.data.pairs_share < 1 else ()),
        ("data.soft_targets", recipe.data.soft_targets),
        ("data.pairs_lq", recipe.data.pairs_lq if recipe.data.pairs_share else ()),
        ("data.pairs_gt", recipe.data.pairs_gt if recipe.data.pairs_share else ()),
        ("validation.gt", (recipe.validation.gt,)),
        ("validation.lq", (recipe.validation.lq,)),
    ):
        missing = [folder for folder in folders if folder and not Path(folder).is_dir()]
        if missing:
            what = "a missing folder" if len(missing) == 1 else "missing folders"
            less = "; or set data.pairs_share=0" * field_name.startswith("data.pairs")
            yield f"{field_name} names {what}: {', '.join(missing)}{less}"
    if recipe.perceptual.weights and not Path(recipe.perceptual.weights).is_file():
        yield f"perceptual.weights names a missing file: {recipe.perceptual.weights}"
    for name in ("optimizer", "adversarial"):
        betas = getattr(recipe, name).betas
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            yield f"{name}.betas must be two numbers in [0, 1), not {list(betas)}"
    for path, low, high in _RANGES:
        value: Any = recipe
        for name in path.split("."):
            value = getattr(value, name)
        if not low <= value <= high:
            yield f"{path} must lie between {low:g} and {high:g}, not {value:g}"


def _distillation_faults(recipe: Recipe) -> Iterator[str]:
    data, weights = recipe.data, recipe.distill.weights
    soft = any(data.soft_targets)
    if soft and data.degradation is not Degradation.BICUBIC:
        yield (
            f"data.soft_targets goes with data.degradation bicubic only, not "
            f"{data.degradation.value}; distill.weights goes with all"
        )
    if soft and data.pairs_share:
        yield "data.soft_targets leaves no room for data.pairs_share"
    if soft and weights:
        yield "data.soft_targets and distill.weights exclude each other"
    if recipe.loss.changed("soft_weight") and not (soft or weights):
        yield "loss.soft_weight has an effect with data.soft_targets or distill.weights only"
    if weights and not Path(weights).is_file():
        yield f"distill.weights names neither a file nor known weights: {weights}"


def _schedule_faults(optimizer: OptimizerRecipe) -> Iterator[str]:
    if any(optimizer.factors):
        if min(optimizer.milestones, default=1) < 1:
            yield "optimizer.milestones must be 1 or more where optimizer.factors are given"
        if len(optimizer.factors) != len(optimizer.milestones):
            yield "optimizer.factors must be as many as optimizer.milestones"
        if not all(factor > 0 for factor in optimizer.factors):
            yield f"optimizer.factors must be positive, not {list(optimizer.factors)}"
        if not all(factor < math.inf for factor in optimizer.factors):
            yield f"optimizer.factors must be finite, not {list(optimizer.factors)}"
    if list(optimizer.milestones) != sorted(optimizer.milestones):
        yield f"optimizer.milestones must rise, not be {list(optimizer.milestones)}"
    if optimizer.schedule is LearningRate.CYCLES and (
        len(optimizer.cycles) != len(optimizer.ends) or min(optimizer.cycles, default=0) < 1
    ):
        yield "optimizer.cycles and ends must be equally long, with cycles of 1 iteration or more"
    if not all(0 <= end <= 1e3 for end in optimizer.ends):
        yield f"optimizer.ends must lie between 0 and 1000, not be {list(optimizer.ends)}"


def forgotten_schedule(optimizer: Mapping[str, object]) -> Iterator[str]:
    """Fields of a table that a schedule would read, were it not the default for lack of a word."""
    if "schedule" not in optimizer:
        for name, schedule in _OF_SCHEDULE.items():
            if name in optimizer:
                yield f"optimizer.{name} has an effect with optimizer.schedule {schedule} only"


def _size_faults(recipe: Recipe) -> Iterator[str]:
    data, multiple = recipe.data, recipe.model.multiple
    if data.patch < 1 or data.patch % multiple:
        yield f"data.patch must be a multiple of {multiple}, not {data.patch}"
    lists = (data.progressive_at, data.progressive_patch, data.progressive_batch)
    if len({len(values) for values in lists}) > 1:
        yield "data.progressive_at, progressive_patch and progressive_batch must be equally long"
        return
    shares = data.progressive_at
    if any(not 0 < share <= 1 for share in shares) or list(shares) != sorted(set(shares)):
        yield f"data.progressive_at must rise between 0 and 1, not be {list(shares)}"
    for _, patch, batch in data.sizes()[1:]:
        if patch < 1 or patch % multiple:
            yield f"data.progressive_patch must hold multiples of {multiple}, not {patch}"
        if batch < 1:
            yield f"data.progressive_batch must hold counts from 1 on, not {batch}"


def _degradation_faults(recipe: Recipe) -> Iterator[str]:
    kind, model, data = recipe.data.degradation, recipe.model, recipe.data
    if (kind is Degradation.HOLES) != model.takes_mask:
        does = "takes a mask" if model.takes_mask else "takes no mask"
        yield f"data.degradation {kind.value} does not go with a model that {does}"
    if kind not in (Degradation.BICUBIC, Degradation.REALWORLD) and model.scale != 1:
        yield f"data.degradation {kind.value} needs model.scale 1, not {model.scale}"
    if kind is Degradation.BICUBIC and model.scale == 1:
        yield "data.degradation bicubic needs a model.scale above 1"
    if kind is not Degradation.HOLES:
        for name in recipe.loss.changed("known_weight", "hole_weight"):
            yield f"loss.{name} has an effect on holes only"
        if data.changed("masks"):
            yield "data.masks has an effect on holes only"
    if recipe.loss.pixel is PixelLoss.RELATIVE and kind not in _BLUR:
        yield f"loss.pixel relative needs data.degradation shake or frames, not {kind.value}"
    if not data.masks:
        yield "data.masks must name at least one kind"
    if data.sharpen_gt and kind is not Degradation.REALWORLD:
        yield "data.sharpen_gt has an effect on realworld only"
    if data.pairs_share and kind is Degradation.HOLES:
        yield "data.pairs_share has no effect with holes: they are cut into any photo"
    if data.frames_share and kind is not Degradation.SHAKE:
        yield f"data.frames_share goes with data.degradation shake only, not {kind.value}"
    if round(data.pairs_share + data.frames_share, 9) > 1:
        yield "data.pairs_share and frames_share must not be more than 1 together"
    if data.pairs_share and not (any(data.pairs_lq) and any(data.pairs_gt)):
        yield "data.pairs_share needs data.pairs_lq and pairs_gt"
    if recipe.validation.lq and not recipe.validation.gt:
        yield "validation.lq needs validation.gt"
    if recipe.validation.lq and kind is Degradation.HOLES:
        yield "validation.lq has no effect with holes: they are cut into validation.gt"


_BLUR = (Degradation.SHAKE, Degradation.FRAMES)
"""Degradations that only blur."""
_OF_SCHEDULE = {
    "milestones": LearningRate.STEP,
    "factors": LearningRate.STEP,
    "gamma": LearningRate.STEP,
    "cycles": LearningRate.CYCLES,
    "ends": LearningRate.CYCLES,
}
"""Which schedule reads a field, where it is not the default."""
_MANY = 10**9
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("iterations", 1, _MANY),
    ("max_minutes", 0, _MANY),
    ("seed", 0, 2**63 - 1),
    ("ema", 0, 0.999999),
    ("save_every", 1, _MANY),
    ("log_every", 1, _MANY),
    ("data.batch", 1, 16384),
    ("data.pairs_share", 0, 1),
    ("data.frames_share", 0, 1),
    ("data.pairs_below", 0, 100),
    ("loss.known_weight", 0, 1e6),
    ("loss.hole_weight", 0, 1e6),
    ("loss.frequency_weight", 0, 1e6),
    ("loss.soft_weight", 0, 1),
    ("optimizer.lr", 1e-12, 1e3),
    ("optimizer.clip", 1e-12, 1e12),
    ("optimizer.final", 0, 1),
    ("optimizer.gamma", 1e-6, 1),
    ("optimizer.warmup", 0, _MANY),
    ("loss.ipr_weight", 0, 1e6),
    ("adversarial.dim", 1, 1024),
    ("adversarial.weight", 0, 1e6),
    ("adversarial.feature_matching", 0, 1e6),
    ("adversarial.r1", 0, 1e6),
    ("adversarial.lr", 1e-12, 1e3),
    ("perceptual.weight", 0, 1e6),
    ("loss_spike_ratio", 0, 1e6),
    ("max_rollbacks", 0, 1000),
    ("loss.ipr_only", 0, _MANY),
    ("validation.every", 1, _MANY),
    ("validation.count", 1, _MANY),
    ("validation.border", 0, 1000),
)
"""Fields with their smallest and largest sensible values."""
