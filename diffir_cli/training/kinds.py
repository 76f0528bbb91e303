"""What a recipe chooses from."""

from __future__ import annotations

from enum import StrEnum


class LearningRate(StrEnum):
    """How the learning rate falls."""

    COSINE = "cosine"
    STEP = "step"
    CYCLES = "cycles"
    """Cosines one after the other, each from `lr`."""


class Discriminator(StrEnum):
    """Who judges the images of the third stage."""

    NONE = "none"
    """Nobody: only the perceptual loss is new."""
    UNET = "unet"
    """Every pixel, spectrally normalised (sr, realsr)."""
    PATCH = "patch"
    """Overlapping patches (inpaint)."""


class PixelLoss(StrEnum):
    """How far HQ is from GT."""

    L1 = "l1"
    """Mean |GT − HQ| (Eq. 9)."""
    L2 = "l2"
    """Mean (GT − HQ)²: what PSNR is made of."""
    PSNR = "psnr"
    """(50 dB − PSNR) / 100 of each crop: crops that can be restored count as much as those that
    hardly can, where a mean of differences is all about the second."""
    RELATIVE = "relative"
    """Mean (GT − HQ)² of each crop over its mean (GT − LQ)² and a little more: the share of the
    squared error that is left, however strong the blur. For `shake` and `frames` only."""


class IPRLoss(StrEnum):
    """How far Ẑ is from Z."""

    L1 = "l1"
    """Mean |Ẑ − Z| (Eq. 13)."""
    L2 = "l2"
    """Mean (Ẑ − Z)² (Eq. 14)."""
    KL = "kl"
    """Divergence of their softmax (Eq. 15)."""


class Optimization(StrEnum):
    """What stage 2 trains together."""

    JOINT = "joint"
    """All T steps, then the DIRformer, in one graph (Alg. 1; Table 4, V3)."""
    TRADITIONAL = "traditional"
    """The denoiser and CPEN_S2 at one random step; the DIRformer rests (Table 4, V2)."""


class Augment(StrEnum):
    """In which orientations crops are seen."""

    ALL = "all"
    """Flipped and turned by right angles, all eight."""
    FLIP = "flip"
    """Mirrored left to right half of the time."""
    NONE = "none"
    """As they are."""


class OptimizerKind(StrEnum):
    """How gradients become updates."""

    ADAM = "adam"
    MUON = "muon"
    """Muon for the matrices inside the network, Adam for everything else."""
