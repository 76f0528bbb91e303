"""A training run as frozen values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from diffir_cli.degradations.kinds import Degradation, MaskKind
from diffir_cli.models.families import DEFAULT_FAMILY, config_of
from diffir_cli.options import Precision
from diffir_cli.training.kinds import (
    Augment,
    Discriminator,
    IPRLoss,
    LearningRate,
    Optimization,
    OptimizerKind,
    PixelLoss,
)
from diffir_cli.util.tables import Table


@dataclass(frozen=True)
class DataRecipe(Table):
    """Which photos, and how they are cut."""

    train: tuple[str, ...] = ()
    """Folders of sharp photos."""
    degradation: Degradation = Degradation.BICUBIC
    """What is done to them."""
    masks: tuple[MaskKind, ...] = (MaskKind.TRAIN,)
    """For holes, the kinds of which one is drawn for each crop."""
    sharpen_gt: bool = False
    """Whether the truth is sharpened, as for the second version of realsr."""
    pairs_lq: tuple[str, ...] = ()
    """Folders of really degraded photos, whose sharp versions have the same names in `pairs_gt`."""
    pairs_gt: tuple[str, ...] = ()
    """Folders of their sharp versions: the first for the first of `pairs_lq` and so on, or, where
    they are not as many, anywhere in them."""
    soft_targets: tuple[str, ...] = ()
    """For bicubic reduction: folders in which each photo has a picture of its name and size, made
    from the reduced photo by another network, to learn from (`loss.soft_weight`)."""
    pairs_share: float = 0.0
    """Share of crops that come from these pairs."""
    pairs_below: float = 0.0
    """For networks that read a deconvolution prior: windows of pairs with this PSNR in dB or more
    are hardly degraded, and left out; 0 to take all."""
    frames_share: float = 0.0
    """With `shake`, share of crops from photos that are blurred as averaged frames are instead."""
    patch: int = 48
    """Side of a crop in LQ pixels."""
    batch: int = 8
    """Crops an iteration, over all processes."""
    progressive_at: tuple[float, ...] = ()
    """Shares of the schedule from which on the next patch and batch of the two lists below are
    used; `patch` and `batch` are for the time before the first."""
    progressive_patch: tuple[int, ...] = ()
    """Side of a crop in LQ pixels, for each entry of `progressive_at`."""
    progressive_batch: tuple[int, ...] = ()
    """Crops an iteration, for each entry of `progressive_at`."""
    windows: int = 1000
    """For networks that read a deconvolution prior: how many windows are blurred and deconvolved,
    of which crops are then drawn."""
    window: int = 448
    """Side of such a window in LQ pixels; kernels are estimated better in larger ones."""
    augment: Augment = Augment.ALL
    """In which orientations they are seen, one drawn for each."""

    def sizes(self) -> list[tuple[float, int, int]]:
        """(share of the schedule, patch, batch) of each part of the run, in order."""
        lists = (self.progressive_at, self.progressive_patch, self.progressive_batch)
        rows = zip(*lists, strict=False)
        return [(0.0, self.patch, self.batch), *(row for row in rows if row[0] < 1)]


@dataclass(frozen=True)
class OptimizerRecipe(Table):
    """The optimizer and its learning rate."""

    kind: OptimizerKind = OptimizerKind.ADAM
    """Which optimizer."""
    lr: float = 2e-4
    """Learning rate behind the warm-up."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's two decay rates."""
    clip: float = 1.0
    """Longest gradient that is not shortened, over all parameters."""
    schedule: LearningRate = LearningRate.COSINE
    """How the learning rate falls."""
    final: float = 0.0
    """Where the cosine ends, as a share of `lr`."""
    milestones: tuple[int, ...] = ()
    """Iterations at which the step schedule multiplies by `gamma`."""
    gamma: float = 0.5
    """Factor of the step schedule."""
    factors: tuple[float, ...] = ()
    """What `lr` is multiplied by from each milestone on, where that is no power of `gamma`."""
    cycles: tuple[int, ...] = ()
    """Iterations of each cosine of the cycles schedule."""
    ends: tuple[float, ...] = ()
    """Learning rate at which each of them ends; it may lie above `lr`."""
    warmup: int = 0
    """Iterations over which the learning rate rises from 0."""


@dataclass(frozen=True)
class LossRecipe(Table):
    """L_all = L_rec + weight · L_diff."""

    pixel: PixelLoss = PixelLoss.L1
    """L_rec."""
    known_weight: float = 1.0
    """Weight of known pixels in L_rec of inpainting."""
    hole_weight: float = 1.0
    """Weight of pixels in holes in L_rec of inpainting."""
    frequency_weight: float = 0.0
    """Weight of the mean |FFT(GT) − FFT(HQ)| in L_rec; helps against blur."""
    soft_weight: float = 0.5
    """Share of L_rec that is taken from the soft targets instead of GT; 1 for only these. Has an
    effect with `data.soft_targets` or `distill.weights` only."""
    ipr: IPRLoss = IPRLoss.L1
    """L_diff of stage 2."""
    ipr_weight: float = 1.0
    """Weight of L_diff; 0 for a stage 2 that learns a new network from images alone, without
    stage-1 weights."""
    optimization: Optimization = Optimization.JOINT
    """What stage 2 trains together."""
    variance_noise: bool = False
    """Whether each reverse step adds noise (Table 4, V4)."""
    ipr_only: int = 0
    """First iterations of stage 2 that train CPEN_S2 and the denoiser alone, on L_diff."""


@dataclass(frozen=True)
class AdversarialRecipe(Table):
    """The discriminator of the third stage."""

    discriminator: Discriminator = Discriminator.NONE
    """Which."""
    dim: int = 64
    """Its channels at full resolution."""
    weight: float = 1.0
    """Weight of the network's adversarial loss."""
    feature_matching: float = 0.0
    """Weight of the squared distances of the discriminator's features."""
    r1: float = 0.0
    """Weight of the squared gradient at real images in the discriminator's loss."""
    lr: float = 1e-4
    """Its learning rate."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's two decay rates."""
    follow_lr_schedule: bool = True
    """Whether its learning rate falls with that of the network."""


@dataclass(frozen=True)
class PerceptualRecipe(Table):
    """The perceptual loss of the third stage."""

    weights: str = ""
    """A state dict of VGG19, which is the user's to supply; empty to train without."""
    weight: float = 1.0
    """Weight of the loss."""


@dataclass(frozen=True)
class DistillRecipe(Table):
    """Another network whose results are learned from beside the truth."""

    weights: str = ""
    """Stage-2 weights of the same task and scale, a file or a name from `weights.toml`; run on
    every batch. Empty for none."""


@dataclass(frozen=True)
class ValidationRecipe(Table):
    """How good the averaged weights are, every now and then."""

    gt: str = ""
    """A folder of sharp photos; empty for no validation."""
    lq: str = ""
    """A folder of their degraded versions; empty to degrade them by seed."""
    count: int = 8
    """How many of them, in the order of their names."""
    every: int = 1000
    """Iterations between two validations."""
    border: int = 4
    """HQ pixels at the edges that do not count."""


@dataclass(frozen=True)
class Recipe(Table):
    """One training run."""

    name: str = ""
    """What the weights are called."""
    family: str = DEFAULT_FAMILY
    """Which family of networks it trains."""
    stage: int = 1
    """1, 2 or 3; the third goes on from the second against a discriminator."""
    start: str = ""
    """Stage-2 weights to go on from, a file or a name that the registry knows and that is on this
    machine: in stage 3, where they are needed, and in stage 2. Where the model has more blocks than
    these, or than the teacher in `init`, new ones change nothing at first."""
    init: str = ""
    """Stage-1 weights, named in the same way. In stages 2 and 3 they are those of the teacher, and
    without `start` of the first DIRformer; a run with `start` or with `loss.ipr_weight` 0 can do
    without them. In stage 1 they are optional and may be of either stage: the network begins with
    every tensor of the same name and shape, so that it can grow or shrink."""
    autoencoder: str = ""
    """Of latent networks, weights of the autoencoder, named in the same way; it does not learn."""
    model: Any = field(default_factory=lambda: config_of(DEFAULT_FAMILY, {}))
    """The configuration of the network, of a class of its family's."""
    data: DataRecipe = field(default_factory=DataRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    adversarial: AdversarialRecipe = field(default_factory=AdversarialRecipe)
    perceptual: PerceptualRecipe = field(default_factory=PerceptualRecipe)
    distill: DistillRecipe = field(default_factory=DistillRecipe)
    validation: ValidationRecipe = field(default_factory=ValidationRecipe)
    iterations: int = 1000
    """Updates of the weights."""
    max_minutes: float = 0.0
    """Time after which the schedule is at its end even if iterations are left; 0 for none. The
    schedule then follows the clock, so that no two runs are the same to the bit."""
    seed: int = 0
    """Where crops, noise and first weights come from."""
    ema: float = 0.999
    """Decay of the averaged weights, which are the result."""
    loss_spike_ratio: float = 4.0
    """How many times its usual size the loss must reach to be taken for a collapse: the run then
    goes back to the last good state, with half the learning rate. 0 for only when it is no
    number."""
    max_rollbacks: int = 5
    """How often it may do so."""
    precision: Precision = Precision.FP32
    """fp32, or bf16 by autocast."""
    save_every: int = 500
    """Iterations between two saved states."""
    log_every: int = 50
    """Iterations between two rows of the log."""


_FIRST_EMPTY = {
    **dict.fromkeys(("train", "pairs_lq", "pairs_gt", "soft_targets"), ""),
    **{"progressive_at": 1.0, "progressive_patch": 0, "progressive_batch": 0},
}
"""What empty lists of `data` held in states of earlier versions."""


def digest(recipe: Recipe) -> dict[str, str]:
    """What a state must share with a recipe to be continued by it.

    Of the optimizer only the kind counts until the run is finished: one that went wrong may go on
    from its last good state with a smaller learning rate.
    """
    values = recipe.to_dict()
    # Under its first name, so that states of earlier versions can be continued.
    values["adversarial"]["falls"] = values["adversarial"].pop("follow_lr_schedule")
    for name, empty in _FIRST_EMPTY.items():
        values["data"][name] = values["data"][name] or [empty]
    parts = {name: json.dumps(values[name], sort_keys=True) for name in _DECISIVE}
    return {**parts, "optimizer.kind": json.dumps(recipe.optimizer.kind.value)}


_DECISIVE = (
    *("stage", "model", "data", "optimizer", "loss", "adversarial", "perceptual"),
    *("seed", "ema", "precision"),
)
"""Fields that decide over the weights, beside files."""
