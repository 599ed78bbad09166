"""Text of others in cards that are Markdown with a YAML header."""

from __future__ import annotations

import json


def cell(text: object) -> str:
    """Text that stays text in a table of Markdown."""
    plain = " ".join(str(text).split())
    for sign in "\\`*_{}[]<>|#":
        plain = plain.replace(sign, f"\\{sign}")
    return plain


def quoted(text: str) -> str:
    """Text as a YAML scalar, on one line."""
    return json.dumps(" ".join(text.split()), ensure_ascii=False)
