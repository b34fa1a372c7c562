"""Policy files: which texts a list of paths means.

Not here: what the texts say (the engine parses them).

Invariants
- PS1 a path that yields nothing is an error: an empty set would deny everything without anybody knowing why.
- PS2 policies that are named replace the built-in set; naming `secure-default` too keeps it beside them.
- PS3 the name of a starter policy stands wherever a path may; a file or directory of that name comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symbi.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PolicyChange", "PolicyTexts", "read_policies"]

STARTERS = ("secure-default", "hipaa-phi", "gdpr-personal-data", "sox-change-control", "mcp-tools")
"""Starter policies, by name (PS3); a test holds them to those of the core."""

_NAMES = ", ".join(f"`{name}`" for name in STARTERS)

FILE_BYTES_MAX = 1 << 20
"""Bytes of one policy file; what is larger was not written by a person."""


@dataclass(frozen=True, slots=True)
class PolicyTexts:
    """Named texts: Cedar sources, and TOML that declares counters."""

    sources: tuple[tuple[str, str], ...]
    counters: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """Policies that were put in force.

    Attributes:
        digest: Of the set in force now.
        sampled: Recent operations that both sets decided.
        flips: The first of those that fall otherwise now: `{"principal", "action", "resource", "before", "after",
            "rule"}` each.
    """

    digest: str
    sampled: int
    flips: tuple[dict[str, Any], ...]


def read_policies(paths: Iterable[str | Path]) -> PolicyTexts:
    """Read every `*.cedar` and `*.counters.toml` of the paths: files as they are, directories one level deep.

    The name of a starter policy, such as `secure-default`, stands for it (PS2, PS3).

    Raises:
        PolicyError: a path is not there, is of neither kind, cannot be read, or yields nothing (PS1).
    """
    sources: list[tuple[str, str]] = []
    counters: list[tuple[str, str]] = []
    for given in paths:
        path = Path(given)
        if str(given) in STARTERS and not path.exists():  # PS3
            from symbi._core import builtin_policy

            sources.append((str(given), builtin_policy(str(given))))
            continue
        if path.is_dir():
            found = sorted([*path.glob("*.cedar"), *path.glob("*.counters.toml")])
            if not found:
                raise PolicyError(f"`{path}` holds no `*.cedar` and no `*.counters.toml`")
        elif path.is_file():
            found = [path]
        else:
            raise PolicyError(f"there is no policy `{path}`: a file, a directory, or one of {_NAMES}")
        for file in found:
            if file.name.endswith(".counters.toml"):
                counters.append((str(file), _text(file)))
            elif file.suffix == ".cedar":
                sources.append((str(file), _text(file)))
            else:
                raise PolicyError(f"`{file}` is not a policy: accepted are `*.cedar` and `*.counters.toml`")
    return PolicyTexts(tuple(sources), tuple(counters))


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
        if len(data) > FILE_BYTES_MAX:
            raise PolicyError(f"`{file}` has {len(data)} bytes; a policy file has at most {FILE_BYTES_MAX}")
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PolicyError(f"`{file}` is not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise PolicyError(f"`{file}` cannot be read: {error.strerror}") from None
