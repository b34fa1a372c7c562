"""One spelling for paths and addresses, before a policy looks at them.

    canonical_path("./reports//a.txt")                # 'reports/a.txt'
    canonical_address("http://0x7f.1/x").address      # '127.0.0.1:80', .reach == 'machine'

Why: a policy compares text. One place must have one text, and what two readers could take differently must not pass.
Not here: opening and connecting. A canonical path may lead through a link: open it beneath its root. A name that was
decided is resolved once, each answer asked for its reach, and connected to by that answer; a redirect is a new address.
"""

from __future__ import annotations

from dataclasses import dataclass

from symbi import _core

__all__ = ["CanonicalAddress", "canonical_address", "canonical_path"]


@dataclass(frozen=True, slots=True)
class CanonicalAddress:
    """An address as policies see it.

    Attributes:
        address: `host:port`; the host in lower case, a number in its shortest spelling.
        reach: `public`, `machine` (this one), `metadata` (a cloud's credentials), `local` (this network) or `reserved`.
            A public name may resolve to anything: ask the reach of the answer too.
        text: What was given, with the address in its place.
    """

    address: str
    reach: str
    text: str


def canonical_path(text: str) -> str:
    """The one spelling of a relative path.

    Raises:
        InputError: it is absolute or goes up; it holds percent escapes, backslashes, control or hidden characters,
            look-alikes of `.` and `/`; it is not in Unicode normal form C; it is too long.
    """
    return _core.canonical_path(text)


def canonical_address(text: str) -> CanonicalAddress:
    """The one spelling of `http(s)://host[:port]/…` or `host:port`.

    Raises:
        InputError: another scheme, user and password, a backslash, non-ASCII, a host or port that is none.
    """
    return CanonicalAddress(*_core.canonical_address(text))
