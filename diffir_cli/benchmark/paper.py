"""What the paper says that its networks cost, beside what ours do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from diffir_cli.models.cost import Cost
from diffir_cli.models.diffir.cost import count_cost
from diffir_cli.weights.registry import find_weights

SIDE = 256
"""Pixels: the paper counts at 256×256, for super-resolution those of the small image."""

_RESTORMER = "Restormer"
_RESTORMER_G = 140.99
"""G of Restormer's Mult-Adds at 256×256 as papers usually quote them; DiffIR's prints none."""

ASSUMED = (
    f"the share over {_RESTORMER} divides by {_RESTORMER_G} G, which papers usually quote and this "
    "one does not print"
)
"""What a reader must know of the rows."""

_INPAINT, _SR, _DEBLUR = "inpaint-celeba", "realsr-x4", "deblur-gopro"

_OTHERS = (("BSRGAN", 1.18), ("Real-ESRGAN", 1.18), ("KDSR-GAN", 0.86), ("LDM", 37.25))
"""Other methods of Table 6, with T of their Mult-Adds."""

_SOURCE_NOTE = {"Real-ESRGAN": 63, "LDM": 2}
"""Percent of their Mult-Adds that the text says DiffIR takes."""


@dataclass(frozen=True)
class PaperRow:
    """One figure of the paper."""

    source: str
    """Its table or figure."""
    what: str
    """The method, or what is compared."""
    unit: str
    """Of all figures of the row."""
    digits: int
    """Behind the point, as printed."""
    published: float
    """What the paper prints."""
    ours: float | None = None
    """By the convention `paper`; None for methods of others, or over such as have no figure."""
    exact: float | None = None
    """By the convention `exact`; None for methods of others, or over such as have no figure."""

    @property
    def agrees(self) -> bool | None:
        """Whether ours, rounded as the paper rounds, is what it prints; None without ours."""
        return None if self.ours is None else round(self.ours, self.digits) == self.published


_FIGURE_1 = (
    PaperRow("Figure 1", "inpainting, DiffIR S2 over RePaint", "%", 1, 0.1),
    PaperRow("Figure 1", "inpainting, parameters over RePaint", "%", 1, 4.3),
    PaperRow("Figure 1", "inpainting, times as efficient as RePaint", "×", 0, 1000),
    PaperRow("Figure 1", "×4 SR, DiffIR S2 over BebyGAN", "%", 0, 63),
    PaperRow("Figure 1", "×4 SR, DiffIR S2 over LDM", "%", 0, 2),
)
"""What the text says of methods whose own figures are not printed, so that ours have no divisor."""


def paper_rows() -> list[PaperRow]:
    """Table 1 (parameters), Table 4, Table 6, and Figure 1 where the text gives numbers."""
    sr, deblur = _cost(_SR), _cost(_DEBLUR)
    s2 = _cost(_INPAINT)
    millions = s2.total_parameters / 1e6
    return [
        PaperRow("Table 1", "inpainting, parameters", "M", 0, 26, millions, millions),
        _table4("DiffIR S1", 47.97, _cost(_INPAINT, 1)),
        _table4("DiffIR S2-V1", 51.63, _cost(_INPAINT, steps=0)),
        *(_table4(f"DiffIR S2-V{variant}", 51.63, s2) for variant in (2, 3, 4)),
        PaperRow("Table 6", "×4 real-world SR, DiffIR S2", "T", 2, 0.74, *_share(sr, 1)),
        *(PaperRow("Table 6", f"×4 real-world SR, {name}", "T", 2, t) for name, t in _OTHERS),
        *(
            PaperRow(
                "Table 6",
                f"DiffIR S2 over {name}",
                "%",
                0,
                _SOURCE_NOTE[name],
                *_share(sr, t / 100),
            )
            for name, t in _OTHERS
            if name in _SOURCE_NOTE
        ),
        *_FIGURE_1,
        PaperRow(
            "Figure 1",
            f"deblurring, DiffIR S2 over {_RESTORMER} ({_RESTORMER_G} G)",
            "%",
            0,
            78,
            *_share(deblur, _RESTORMER_G / 1e5),
        ),
    ]


def _cost(name: str, stage: int = 2, **changes: Any) -> Cost:
    return count_cost(replace(find_weights(name).model, **changes), SIDE, SIDE, stage)


def _table4(what: str, published: float, cost: Cost) -> PaperRow:
    giga = cost.paper / 1e9, cost.exact / 1e9
    return PaperRow("Table 4", f"inpainting, {what}", "G", 2, published, *giga)


def _share(cost: Cost, tera: float) -> tuple[float, float]:
    """Mult-Adds by both conventions over so many T."""
    return cost.paper / (tera * 1e12), cost.exact / (tera * 1e12)
