"""In which line of a TOML file a key stands.

Why: an error that names the line is mended in seconds, and the standard parser keeps no lines. This is a scan
for table headers and keys beside the real parser, used for messages alone: what a file means is `tomllib`'s
word.

Invariants
- CN1 a wrong line number can mislead a reader, never a setting: no value comes from here.
"""

from __future__ import annotations

import re

__all__ = ["line_of", "scan"]

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_DOTTED})\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=(.*)$")
_LONG_QUOTES = ('"""', "'''")


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"' \t") for part in re.findall(_PART, dotted)]


def _open_quote(text: str, quote: str) -> str:
    """The long quote that is open after `text`, when `quote` was open before it; empty for none."""
    place = 0
    while place < len(text):
        found = text[place : place + 3]
        if found in _LONG_QUOTES and quote in {"", found}:
            quote = "" if quote else found
            place += 3
        else:
            place += 1
    return quote


def scan(text: str) -> dict[str, int]:
    """Each dotted key and table of `text` with its line, counted from 1."""
    lines: dict[str, int] = {}
    table: list[str] = []
    quote = ""
    for number, line in enumerate(text.splitlines(), start=1):
        inside, quote = bool(quote), _open_quote(line, quote)
        if inside:
            continue
        if header := _HEADER.match(line):
            table = _parts(header[1])
            lines.setdefault(".".join(table), number)
        elif key := _KEY.match(line):
            lines.setdefault(".".join([*table, *_parts(key[1])]), number)
    return lines


def line_of(lines: dict[str, int], key: str) -> int | None:
    """The line of `key`, or of the nearest table around it; `None` where neither is known."""
    while key:
        if key in lines:
            return lines[key]
        key = key.rpartition(".")[0]
    return None
