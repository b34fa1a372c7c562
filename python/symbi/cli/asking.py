"""Asking a runtime what an operator wants: the one that runs, or the data directory itself where none does.

Not here: the socket (`symbi.control`), what is asked for (each command).

Invariants
- AK1 without a running runtime it is asked for in the same way: decided and recorded, by a runtime that lives for this.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from symbi.cli import frame

if TYPE_CHECKING:
    import argparse

__all__ = ["ask_or_open"]


def ask_or_open(options: argparse.Namespace, request: dict[str, Any], *, built_in: bool = False) -> Any:
    """Ask the runtime on `--data`; where none runs, open the directory for this one request.

    Args:
        options: With `data`, and what the configuration is read from.
        request: As the control socket takes it.
        built_in: Let the built-in policies decide where the directory is opened, so that broken ones of one's own
            do not stand in the way. Otherwise the configured ones do.

    Raises:
        InputError: it is no data directory. SymbiError: refused.
    """
    from symbi.control import ask
    from symbi.errors import InputError, RuntimeClosedError

    try:
        return ask(options.data, request)
    except RuntimeClosedError:
        if not (options.data / "keys").is_dir():
            raise InputError(
                f"`{options.data}` is no data directory of a runtime: name it with --data"
            ) from None
        return asyncio.run(_alone(options, request, built_in=built_in))


async def _alone(options: argparse.Namespace, request: dict[str, Any], *, built_in: bool) -> Any:
    from symbi.control import act
    from symbi.runtime import Runtime

    policy = () if built_in else None
    async with Runtime.open(frame.load_config(options), data=options.data, policy=policy) as runtime:
        return await act(runtime, f"operator:{os.getuid()}", request)
