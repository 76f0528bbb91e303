"""What a user chooses, as values that need no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum


class Task(StrEnum):
    """What is wrong with the picture."""

    SR = "sr"
    REALSR = "realsr"
    DEBLUR = "deblur"
    INPAINT = "inpaint"
    FACE = "face"
    """Aligned crops of faces."""


class Precision(StrEnum):
    """The number format of the DIRformer; CPEN and the denoiser always compute in fp32."""

    AUTO = "auto"
    FP32 = "fp32"
    TF32 = "tf32"
    """fp32 whose products are rounded to 11 bits: CUDA only."""
    BF16 = "bf16"
    FP16 = "fp16"
    """Not on a CPU."""


class Engine(StrEnum):
    """How a network is executed; the results are the same, rounding apart."""

    STREAMING = "streaming"
    """In strips: fast, and with little more memory than its feature maps."""
    REFERENCE = "reference"
    """The plain modules, whole: what training uses."""
    OPENVINO = "openvino"
    """A program of OpenVINO, whole: on CPUs, and on GPUs of Intel as `xpu`."""


class AlphaMode(StrEnum):
    """What becomes of transparency."""

    LANCZOS = "lanczos"
    """Resized."""
    NETWORK = "network"
    """Through the network, as a grey picture of its own."""
    DROP = "drop"
    """Left out: the picture becomes opaque."""


class ColorFix(StrEnum):
    """Where the colours of a result come from."""

    AUTO = "auto"
    """`wavelet` for models that restore in a latent space, which shifts colours, unless they fill
    holes; else `none`."""
    WAVELET = "wavelet"
    """Slow changes of colour from the input, fast ones from the network."""
    ADAIN = "adain"
    """Mean and deviation of each channel from the input."""
    NONE = "none"
    """Everything from the network."""


class OnExist(StrEnum):
    """What becomes of a picture whose result has the name of a file that no run has made."""

    ERROR = "error"
    """Nothing is begun."""
    SKIP = "skip"
    """It is left out."""
    OVERWRITE = "overwrite"
    """The file is replaced."""
    RENAME = "rename"
    """The result gets a number behind its name."""


DEVICE_NAME = re.compile(r"auto|cpu|(cuda|xpu|mps)(:\d{1,4})?|\d{1,4}", re.ASCII)
"""What a user may call a device; a bare number is a CUDA device, as in other tools."""
DEVICE_NAMES = "auto, cpu, cuda, cuda:N, xpu, xpu:N or mps"
"""The same in words."""


@dataclass(frozen=True)
class MemoryLimits:
    """What a user allows of memory, and wants of tiles."""

    max_memory: int = 0
    """Bytes that a run may take; 0 for a share of what is free."""
    tile: int | None = None
    """Side of tiles in LQ pixels; 0 for none ever, None for tiles where nothing else fits, or
    the network was made for them."""
    overlap: int = 32
    """LQ pixels that two tiles share."""

    def __post_init__(self) -> None:
        if min(self.max_memory, self.tile or 0, self.overlap) < 0:
            raise ValueError("neither memory nor tiles nor their overlap can be negative")
        if self.tile and self.tile < max(2 * self.overlap, _SMALLEST_SIDE):
            raise ValueError(
                f"tiles of {self.tile} pixels are too small: at least {_SMALLEST_SIDE}, and twice "
                f"their overlap of {self.overlap}"
            )


_SMALLEST_SIDE = 32


@dataclass(frozen=True)
class RunOptions:
    """How a network is run; what is done with a picture beside is `PictureOptions`."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`, `xpu`, `xpu:N` or `mps`."""
    precision: Precision = Precision.AUTO
    """Number format of the network. `auto` is bf16 where the device multiplies in it, on a CPU for
    pictures of 8 bits only."""
    engine: Engine = Engine.STREAMING
    """How the network is executed."""
    limits: MemoryLimits = field(default_factory=MemoryLimits)
    """Of memory and tiles."""
    color_fix: ColorFix = ColorFix.AUTO
    """Where the colours of results come from."""
    threads: int | None = None
    """CPU threads of torch in the whole process; None leaves them as they are."""
