"""The log of the Python half: one line a record on stderr, at the configured level.

Not here: the trail (`symbi.audit`), which is evidence; this is chatter, and may be switched off.

Invariants
- CG1 a program that configured the logger `symbi` itself keeps its handlers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from symbi.config.model import Config

__all__ = ["configure_logging"]

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logging(config: Config) -> None:
    """Applies `log.level` to the logger `symbi`, and gives it a handler on stderr where it has none (CG1)."""
    import logging  # a fifth of the cost of loading the configuration

    logger = logging.getLogger("symbi")
    logger.setLevel(config.log.level.upper())
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(_FORMAT))
        logger.addHandler(handler)
        logger.propagate = False
