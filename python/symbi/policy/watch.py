"""Watching policy files: whoever saves one has it put in force, or is told why not.

Why: a change of policy should not need a restart, and a mistake in one must not open a hole: the set is compiled, and
tried on what was decided lately, before it takes the place of the one before in one step.
Not here: reading the files (`sources`), putting in force (`Runtime`).

`inotify(7)`, so that an idle runtime does nothing. Directories are watched, not files: editors put a new file in the
place of the old one.

Invariants
- PW1 whatever goes wrong leaves the policies before in force, and is said: in the log, in health, in the trail.
- PW2 files that are saved together are loaded together: the directory must have been quiet for `QUIET_S`.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
from typing import TYPE_CHECKING, Final

from symbi.errors import SymbiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

__all__ = ["Watch"]

QUIET_S: Final = 0.05
_MASK: Final = (
    0x2 | 0x8 | 0x40 | 0x80 | 0x200 | 0x400
)  # MODIFY, CLOSE_WRITE, MOVED_FROM, MOVED_TO, DELETE, DELETE_SELF
_log = logging.getLogger("symbi.policy")


def _directories(paths: Iterable[Path]) -> set[Path]:
    return {path if path.is_dir() else path.parent for path in paths if path.exists()}


class Watch:
    """Of the policy paths of one runtime, on its loop."""

    def __init__(
        self, paths: Iterable[Path], load: Callable[[], Awaitable[object]], refuse: Callable[[str], object]
    ) -> None:
        """`load` puts what the files say in force; `refuse` is told why that cannot be.

        Raises:
            OSError: the system has no watch left.
        """
        self._load = load
        self._refuse = refuse
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "no watch of the policy files")
        for directory in sorted(_directories(paths)):
            if libc.inotify_add_watch(self._descriptor, os.fsencode(directory), _MASK) < 0:
                number = ctypes.get_errno()
                os.close(self._descriptor)
                raise OSError(number, os.strerror(number), str(directory))
        self._loop.add_reader(self._descriptor, self._seen)

    def _seen(self) -> None:
        try:
            os.read(self._descriptor, 65_536)
        except BlockingIOError:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(QUIET_S, self._begin)  # PW2

    def _begin(self) -> None:
        if self._task is not None and not self._task.done():
            self._timer = self._loop.call_later(QUIET_S, self._begin)  # one after the other
            return
        self._task = self._loop.create_task(self._reload())

    async def _reload(self) -> None:
        try:
            await self._load()
        except (SymbiError, OSError) as error:
            _log.error("the policy files changed, and those before stay in force: %s", error)
            self._refuse(f"{type(error).__name__}: {error}")  # PW1
        else:
            _log.info("the policy files changed, and are in force")

    async def close(self) -> None:
        """Watch no more; what is being loaded is finished."""
        if self._timer is not None:
            self._timer.cancel()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
