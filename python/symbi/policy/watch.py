"""Watching policy files: whoever saves one has it put in force, or is told why not.

Why: a change of policy should not need a restart, and a mistake in one must not open a hole: the set is compiled, and
tried on what was decided lately, before it takes the place of the one before in one step.
Not here: reading the files (`sources`), putting in force (`Runtime`).

Looked at four times a second, by name, inode, size and time: some microseconds each, on every file system.

Invariants
- PW1 whatever goes wrong leaves the policies before in force, and is said: in the log, in health, in the trail.
- PW3 a change that persons must agree to is put in force once they have, unless the files have changed again by then.
- PW2 files that are saved together are loaded together: two looks in a row must have seen the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from symbi.errors import PolicyDenied, SymbiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

__all__ = ["Watch"]

LOOK_S: Final = 0.25
_log = logging.getLogger("symbi.policy")
_Seen = tuple[tuple[str, int, int, int], ...]


def _look(paths: Iterable[Path]) -> _Seen:
    """What there is, as far as a change of it shows."""
    files: set[Path] = set()
    for path in paths:
        try:
            files |= {*path.glob("*.cedar"), *path.glob("*.counters.toml")} if path.is_dir() else {path}
        except OSError:
            continue  # it is gone between two looks: that is a change too
    seen = []
    for file in sorted(files):
        try:
            stat = file.stat()
        except OSError:
            continue
        seen.append((str(file), stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(seen)


class Watch:
    """Of the policy paths of one runtime, on its loop."""

    def __init__(
        self,
        paths: Iterable[Path],
        load: Callable[[], Awaitable[object]],
        refuse: Callable[[str], object],
        agreed: Callable[[PolicyDenied], Awaitable[object]],
    ) -> None:
        """`load` puts what the files say in force; `refuse` is told why that cannot be; `agreed` waits for persons."""
        self._agreed = agreed
        self._waiting: asyncio.Task[None] | None = None
        self._paths = tuple(paths)
        self._load = load
        self._refuse = refuse
        self._loop = asyncio.get_running_loop()
        self._loaded = self._seen = _look(self._paths)
        self._task: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(LOOK_S, self._tick)

    def _tick(self) -> None:
        now = _look(self._paths)
        quiet, self._seen = now == self._seen, now
        busy = self._task is not None and not self._task.done()  # one after the other
        if quiet and now != self._loaded and not busy:
            self._loaded = now
            if self._waiting is not None:
                self._waiting.cancel()  # PW3
            self._task = self._loop.create_task(self._reload())
        self._timer = self._loop.call_later(LOOK_S, self._tick)

    async def _reload(self) -> None:
        try:
            await self._load()
        except (SymbiError, OSError) as error:
            _log.error("the policy files changed, and those before stay in force: %s", error)
            self._refuse(f"{type(error).__name__}: {error}")  # PW1
            if isinstance(error, PolicyDenied):
                self._waiting = self._loop.create_task(self._until_agreed(error))
        else:
            _log.info("the policy files changed, and are in force")

    async def _until_agreed(self, denied: PolicyDenied) -> None:
        """PW3. Where nobody need be asked, or somebody said no, it was told already."""
        with contextlib.suppress(SymbiError):
            await self._agreed(denied)
            self._task = self._loop.create_task(self._reload())

    async def close(self) -> None:
        """Watch no more; what is being loaded is finished."""
        self._timer.cancel()
        if self._waiting is not None:
            self._waiting.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
