"""The policies of one runtime: changed while it runs, by files or texts, watched where that is configured.

Not here: compiling, trying, deciding and swapping (the kernel); which texts paths mean (`symbi.policy.sources`).

Invariants
- PO1 one change after the other: what is in force is always what the last change said, whole.
- PO3 a change that waits for persons holds up no other: it is worked out and asked for again when they have agreed.
- PO2 a change that fails leaves everything as it was, what is registered too.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from symbi.errors import InputError
from symbi.policy.sources import PolicyChange, PolicyTexts, read_policies
from symbi.runtime.leaving import Leaving

if TYPE_CHECKING:
    from collections.abc import Iterable

    from symbi.policy import PolicyId
    from symbi.runtime import Runtime

__all__ = ["Policies"]


class Policies:
    """Of one runtime."""

    def __init__(self, runtime: Runtime, paths: tuple[Path, ...] | None) -> None:
        self._runtime = runtime
        self._paths = paths
        self._registered: dict[str, str] = {}
        self._changing = asyncio.Lock()
        self._texts: PolicyTexts | None = None

    def open(self) -> None:
        """The kernel is open, under what the paths say."""
        self._texts = None if self._paths is None else read_policies(self._paths)
        if self._paths and self._runtime.config.policy.watch:
            from symbi.policy.watch import Watch

            runtime = self._runtime
            watch = Watch(
                self._paths,
                self.reload,
                runtime.kernel.refuse_policies,
                lambda denied: runtime.approvals.wait(denied, None),
            )
            self._runtime.closing.push_async_callback(watch.close)

    async def load(
        self, paths: Iterable[Path | str], *, by: str = "host", flips_max: int | None = None
    ) -> PolicyChange:
        """See `Runtime.load_policies`."""
        given = tuple(Path(path) for path in paths)
        async with self._changing:
            changed = await self._put_in_force(read_policies(given), by, flips_max)
            self._paths, self._registered = given, {}
        return changed

    async def register(self, text: str, name: str, by: str) -> PolicyId:
        """See `Runtime.register_policy`."""
        from symbi.policy import PolicyId

        async with self._changing:
            texts = self._effective()
            if any(name == known for known, _ in texts.sources):
                raise InputError(f"there is a policy source `{name}` already")
            added = PolicyTexts((*texts.sources, (name, text)), texts.counters)
            await self._put_in_force(added, by, None)
            self._registered[name] = text
        return PolicyId(name)

    async def unregister(self, policy_id: PolicyId, by: str) -> None:
        """See `Runtime.unregister_policy`."""
        async with self._changing:
            if policy_id not in self._registered:
                raise InputError(f"no policy is registered as `{policy_id}`")
            texts = self._effective()
            left = tuple((name, text) for name, text in texts.sources if name != policy_id)
            await self._put_in_force(PolicyTexts(left, texts.counters), by, None)
            del self._registered[policy_id]

    async def reload(self) -> None:
        """What the files say now, and what is registered, by whoever may write them: the user this process runs as."""
        async with self._changing:
            texts = read_policies(self._paths or ())
            again = PolicyTexts((*texts.sources, *self._registered.items()), texts.counters)
            if again != self._texts or self._runtime.kernel.policy_problem() is not None:
                await self._put_in_force(again, f"operator:{os.getuid()}", None)

    def _effective(self) -> PolicyTexts:
        if self._texts is not None:
            return self._texts
        from symbi._core import builtin_policy

        return PolicyTexts((("builtin:secure-default", builtin_policy("secure-default")),), ())

    async def _put_in_force(self, texts: PolicyTexts, by: str, flips_max: int | None) -> PolicyChange:
        from symbi.policy.archive import keep

        runtime = self._runtime
        async with Leaving(runtime, "policy") as leaving:
            leaving.seq, sampled, flips = await asyncio.to_thread(
                runtime.kernel.change_policies, by, list(texts.sources), list(texts.counters), flips_max
            )
        self._texts = texts
        digest = runtime.kernel.policy_digest()
        await asyncio.to_thread(keep, runtime.data, digest, texts)
        return PolicyChange(digest, sampled, tuple(flips))
