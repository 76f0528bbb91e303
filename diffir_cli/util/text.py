"""Text from outside, such as names of files, as it may be shown."""

from __future__ import annotations

import re

_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What terminals obey, what changes the direction or the line, and bytes that are no UTF-8."""


def shown(text: str) -> str:
    """One line of text, with an escape for whatever would be obeyed and not shown."""
    return _OBEYED.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        # Python's stand-in for a byte of a name.
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
