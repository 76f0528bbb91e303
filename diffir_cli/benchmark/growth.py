"""How time grows with the size of a picture."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from diffir_cli.benchmark.case import Variant
from diffir_cli.benchmark.run import Result
from diffir_cli.benchmark.sizes import Size
from diffir_cli.benchmark.subject import Subject


@dataclass(frozen=True)
class Growth:
    """Seconds ∝ pixelsᵉ, fitted to the sizes of a sweep."""

    subject: Subject
    variant: Variant
    exponent: float | None
    """e; None with fewer than two sizes."""
    sizes: tuple[Size, ...]
    """Those that were measured."""
    left_out: tuple[Size, ...]
    """Those for which the budget did not suffice."""


def fit_growth(results: Sequence[Result], sizes: Sequence[Size]) -> list[Growth]:
    """The growth of each variant of a network.

    Args:
        results: Of this network.
        sizes: All that were to be measured.
    """
    tried = {(result.case.width, result.case.height) for result in results}
    left_out = [size for size in sizes if size not in tried]
    variants = dict.fromkeys(result.case.variant for result in results)
    return [
        _fit([result for result in results if result.case.variant == variant], left_out)
        for variant in variants
    ]


def _fit(results: Sequence[Result], left_out: Sequence[Size]) -> Growth:
    points = [(result.case, result.timing.p50) for result in results if result.timing]
    sizes = tuple((case.width, case.height) for case, _ in points)
    exponent = None
    if len(points) > 1:
        exponent = statistics.linear_regression(
            [math.log(case.width * case.height) for case, _ in points],
            [math.log(seconds) for _, seconds in points],
        ).slope
    first = results[0].case
    return Growth(first.subject, first.variant, exponent, sizes, tuple(left_out))
