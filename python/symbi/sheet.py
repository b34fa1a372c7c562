"""A page that needs nothing: one file, one style sheet that its policy allows by digest, no script, every text escaped.

Not here: what is on it (`symbi.audit.report_page`, `symbi.demo.page`).
"""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape

__all__ = ["escaped", "sheet"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def escaped(value: object) -> str:
    """As text of the page or of an attribute, without what would reorder the line that it stands in."""
    return escape(_CONTROL.sub("�", str(value)), quote=True)


def sheet(title: str, style: str, body: str) -> str:
    """The whole page. `body` is markup, of which every text is escaped already."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escaped(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escaped(title)}</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )
