"""What a DiffIR network looks like, as frozen values that need no torch.

Tasks differ by configuration, never by code: `ModelConfig` has exactly the fields in which the
released networks differ. Its defaults are the released ×4 real-world super-resolution network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from diffir_cli.util.tables import Table

LEVELS = 4
"""Resolutions of the DIRformer's U."""
SMALLEST_WINDOW = 64
"""Pictures with a shorter side tell nothing about the kernel of a shake."""


class Norm(StrEnum):
    """The layer normalisation inside a block."""

    BIAS_FREE = "bias-free"
    """x / σ · w: divided by the deviation but not centred."""
    WITH_BIAS = "with-bias"
    """(x − μ) / σ · w + b."""


class Tail(StrEnum):
    """How the last feature map becomes an image."""

    CONV = "conv"
    """One 3×3 convolution, ×1."""
    SHUFFLE = "shuffle"
    """Two rounds of convolution and PixelShuffle(2), then a convolution, ×4."""
    SHUFFLE_ONCE = "shuffle-once"
    """One convolution and PixelShuffle(4), ×4: the light tail of the small networks, which the
    official code does not have."""

    SHUFFLE_TWO = "shuffle-two"
    """One convolution and PixelShuffle(2), ×2: for small networks that work at half the side, which
    the official code does not have either."""

    @property
    def factor(self) -> int:
        """Side of the image over side of the feature map."""
        return {Tail.CONV: 1, Tail.SHUFFLE_TWO: 2}.get(self, 4)


class Schedule(StrEnum):
    """How βₜ grows with t."""

    SQRT_LINEAR = "sqrt-linear"
    """Linear in √β: what the released code does."""
    LINEAR = "linear"
    """Linear in β: what the paper says."""


class Prediction(StrEnum):
    """What the denoiser's output stands for."""

    X0 = "x0"
    """The IPR itself: what the released networks were trained for."""
    EPSILON = "epsilon"
    """The noise in x_t (DiffIR, Eq. 11)."""


@dataclass(frozen=True)
class ModelConfig(Table):
    """The numbers that tell one DiffIR network from another.

    Raises:
        ValueError: when a number is out of range, with every fault named.
    """

    scale: int = 4
    """Side of the output over side of the input: 1, 2 or 4."""
    tail: Tail = Tail.SHUFFLE
    """How features become an image; its factor over `scale` is the pixel-unshuffle of the input."""
    in_channels: int = 3
    """Channels of `lq`: 3 for RGB, 4 for masked RGB with the mask behind it, 6 for RGB with a
    deconvolution prior behind it. No released network has 6."""
    residual: bool = True
    """Whether the nearest-neighbour enlargement of `lq` is added to the output."""
    prefill: bool = False
    """Whether the DIRformer sees holes filled smoothly instead of black; with `residual` it then
    adds to that prior. No released network does."""
    coherence_fill: bool = False
    """Whether `lq` comes with its holes filled by coherence transport instead of black. CPEN reads
    it so, and the DIRformer beside the smooth filling of `prefill`. No released network does."""
    gated: bool = False
    """Whether the network says for each pixel how much of the prior it adds to: of the
    deconvolution instead of `lq`, or of coherence transport instead of the smooth filling. No
    released network does."""
    dim: int = 64
    """Channels of level 1; each further level doubles them."""
    num_blocks: tuple[int, int, int, int] = (13, 1, 1, 1)
    """Transformer blocks of levels 1 to 4, the same on the way down and up."""
    refinement_blocks: int = 13
    """Blocks behind the decoder at 2·dim channels."""
    heads: tuple[int, int, int, int] = (1, 2, 4, 8)
    """Attention heads of levels 1 to 4."""
    ffn_expansion: float = 2.2
    """Hidden channels of the DGFN over its channels, truncated to an integer."""
    norm: Norm = Norm.BIAS_FREE
    """The layer normalisation inside a block."""
    cpen_dim: int = 64
    """C′ of the paper; the IPR has 4C′ numbers."""
    cpen_blocks: int = 9
    """Residual blocks of CPEN."""
    cpen_stride: int = 4
    """Side of one CPEN pixel in HQ pixels: CPEN sees `lq` unshuffled by stride / scale and `gt`
    unshuffled by stride. 4 in every released network."""
    denoiser_blocks: int = 1
    """Linear layers of the denoiser behind its first."""
    steps: int = 4
    """T, the diffusion steps; with 0 the IPR is D itself (Table 4, V1)."""
    beta_start: float = 0.1
    """β of the first step."""
    beta_end: float = 0.99
    """β of the last step."""
    schedule: Schedule = Schedule.SQRT_LINEAR
    """How β grows between the two."""
    prediction: Prediction = Prediction.X0
    """What the denoiser's output stands for."""

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise ValueError("; ".join(faults))

    def _faults(self) -> list[str]:
        faults = []
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                faults.append(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                faults.append(f"{name} must not be negative, not {getattr(self, name)}")
        for name in (*_POSITIVE, *_NOT_NEGATIVE):
            if getattr(self, name) > _LARGEST:
                faults.append(f"{name} must be at most {_LARGEST}, not {getattr(self, name)}")
        for name in ("num_blocks", "heads"):
            values = getattr(self, name)
            lowest = 1 if name == "heads" else 0
            if len(values) != LEVELS or min(values) < lowest or max(values) > _LARGEST:
                faults.append(f"{name} must be {LEVELS} counts, not {list(values)}")
        if faults:
            return faults
        if self.scale not in (1, 2, 4) or self.tail.factor % self.scale:
            faults.append(f"scale {self.scale} is not possible with tail {self.tail.value!r}")
        if self.in_channels not in (3, 4, 6):
            faults.append(f"in_channels must be 3, 4 or 6, not {self.in_channels}")
        if self.in_channels > 3 and self.scale != 1:
            faults.append(f"in_channels {self.in_channels} needs scale 1")
        if self.prefill and self.in_channels != 4:
            faults.append("prefill needs in_channels 4")
        if self.coherence_fill and not self.prefill:
            faults.append("coherence_fill needs prefill")
        if self.gated and not ((self.coherence_fill or self.in_channels == 6) and self.residual):
            faults.append("gated needs residual, and coherence_fill or in_channels 6")
        if self.cpen_stride % self.scale:
            faults.append(f"cpen_stride {self.cpen_stride} is no multiple of scale {self.scale}")
        if self.dim % 2:
            faults.append(f"dim must be even, not {self.dim}")
        for level, (channels, heads) in enumerate(zip(self.channels, self.heads, strict=True), 1):
            if channels % heads:
                faults.append(f"{heads} heads do not divide {channels} channels of level {level}")
        if not 1 / self.dim <= self.ffn_expansion <= 64:
            faults.append(f"ffn_expansion must leave a hidden channel, not {self.ffn_expansion}")
        if not 0 < self.beta_start <= self.beta_end < 1:
            faults.append(
                f"0 < beta_start ≤ beta_end < 1 does not hold for "
                f"{self.beta_start} and {self.beta_end}"
            )
        return faults

    @property
    def channels(self) -> tuple[int, ...]:
        """Feature channels of levels 1 to 4."""
        return tuple(self.dim * 2**level for level in range(LEVELS))

    @property
    def components(self) -> tuple[str, ...]:
        """A network is one file."""
        return ("model",)

    @property
    def takes_mask(self) -> bool:
        """Whether it reads a mask behind RGB."""
        return self.in_channels == 4

    @property
    def has_prior(self) -> bool:
        """Whether it reads a deconvolution prior behind RGB."""
        return self.in_channels == 6

    @property
    def read_channels(self) -> int:
        """Channels that the DIRformer reads, in front of its pixel-unshuffle."""
        return self.in_channels + 3 * self.coherence_fill

    @property
    def out_channels(self) -> int:
        """Channels behind the tail: RGB, and the gate of a gated network."""
        return 4 if self.gated else 3

    @property
    def ipr_dim(self) -> int:
        """Numbers in the IPR, 4C′."""
        return 4 * self.cpen_dim

    @property
    def unshuffle(self) -> int:
        """Pixel-unshuffle of `lq` in front of the DIRformer."""
        return self.tail.factor // self.scale

    @property
    def lq_unshuffle(self) -> int:
        """Pixel-unshuffle of `lq` in front of CPEN."""
        return self.cpen_stride // self.scale

    @property
    def multiple(self) -> int:
        """What the sides of `lq` must be a multiple of, in LQ pixels."""
        return math.lcm(self.unshuffle * 2 ** (LEVELS - 1), self.lq_unshuffle)

    def padded(self, side: int) -> int:
        """A side of `lq` as the engine pads it, in LQ pixels."""
        return -(-side // self.multiple) * self.multiple

    def ffn_hidden(self, channels: int) -> int:
        """Hidden channels of a DGFN for a feature of `channels` channels, truncated."""
        return int(channels * self.ffn_expansion)


_LARGEST = 1024
"""No number of a network is larger, so that a hostile header cannot ask for an endless one."""

_NOT_NEGATIVE = ("refinement_blocks", "cpen_blocks", "denoiser_blocks", "steps")
_POSITIVE = ("scale", "in_channels", "dim", "cpen_dim", "cpen_stride")
