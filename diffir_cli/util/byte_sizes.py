"""Sizes in bytes as text."""

from __future__ import annotations

import re

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def format_bytes(size: int) -> str:
    """Bytes as people write them."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def parse_bytes(text: str) -> int:
    """Bytes of `4G`, `800M` or `1.5GiB`.

    Raises:
        ValueError: when it is no such size, or none at all.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = float(match[1]) * _UNITS[match[2].upper()] if match else 0.0
    if not 1 <= size < 2**63:
        raise ValueError(f"not a size in bytes: {text!r}")
    return round(size)
