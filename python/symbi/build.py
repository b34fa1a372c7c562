"""What native core this installation has, and whether its figures mean anything.

Why its own module: adapters (command line, bench) never import the native core; they ask here.

Invariants
- BD1 only a release build counts as one: link-time optimised, without debug assertions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

__all__ = ["CoreBuild", "core_build"]


@dataclass(frozen=True, slots=True)
class CoreBuild:
    """The native core that is here.

    Attributes:
        version: Its version; empty where it is missing.
        profile: `release`, or `ci` (optimised, with assertions, not for figures); empty where it is missing.
        problem: Why it cannot be loaded; empty where it can.
    """

    version: str
    profile: str
    problem: str = ""

    @property
    def is_release(self) -> bool:
        """True where a figure measured with it may be quoted (BD1)."""
        return self.profile == "release"


@cache
def core_build() -> CoreBuild:
    """The native core of this process. Cost: loads it, once."""
    try:
        from symbi import _core
    except ImportError as error:
        return CoreBuild("", "", str(error))
    return CoreBuild(_core.__version__, _core.profile)
