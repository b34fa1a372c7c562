"""`rt.approvals`: operations that wait for persons, and those of which nobody knows what became of them.

    for one in rt.approvals.list():
        await rt.approvals.approve(one.id, token=token)

Why: whoever embeds the runtime may ask people in a way of his own: a chat, a form. What he brings back is a person's
word, and it counts as that person's word counts at the command line: with the token.
Not here: which operations wait (policy), what an approval is bound to and when it counts (the kernel).

Invariants
- AP1 a word without a valid token counts for nothing, whoever brings it.
- AP2 who waits is woken when it is decided, and at the latest when its time is over.
- AP3 whatever waits is asked for again from the beginning: the kernel decides it anew, with all that is true by then.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from time import time_ns
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from symbi.errors import InputError, PolicyDenied
from symbi.runtime.holding import GATE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from symbi._core import Kernel
    from symbi.runtime import Runtime
    from symbi.runtime.bridge import Bridge

__all__ = ["Approval", "Approvals", "Vote"]

_T = TypeVar("_T")
_Rows: TypeAlias = "list[dict[str, Any]]"  # `list` is a method below
_POLL_S = 3_600.0  # who waits longer looks again: the clock of the trail may have moved otherwise than ours


@dataclass(frozen=True, slots=True)
class Vote:
    """A person's word: user id (`operator:<uid>`), name of the token, time in microseconds since the epoch."""

    operator: str
    name: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Approval:
    """An operation that waits for persons, or has an answer that was not used yet.

    Attributes:
        id: What `approve` and `deny` take.
        state: `waiting`, `approved`, `denied`.
        action, principal, resource: What, whose doing, to what; `subject` is the principal as policies name it.
        rules: The rules that ask for a person.
        labels: What it carries.
        arguments: What is to be done, in the clear: for whoever decides.
        count: How many persons must agree; `votes` are those who have, `approvers` those who may (empty: any).
        asked_us, expires_us: Microseconds since the epoch.
        modified: A person has changed the arguments.
        seq: The record of the request.
    """

    id: str
    state: Literal["waiting", "approved", "denied"]
    action: str
    principal: str
    subject: str
    resource: str
    agent: str | None
    run: str | None
    rules: tuple[str, ...]
    labels: frozenset[str]
    arguments: Any
    count: int
    approvers: tuple[str, ...]
    votes: tuple[Vote, ...]
    asked_us: int
    expires_us: int
    modified: bool
    seq: int


def _arguments(kernel: Kernel, identity: str) -> Any:
    plain = kernel.approval_arguments(identity)
    if plain is None:
        return None
    try:
        return json.loads(plain)
    except ValueError:
        return plain.decode("utf-8", "replace")


def _approval(kernel: Kernel, row: dict[str, Any]) -> Approval:
    return Approval(
        id=row["operation"],
        state=row["state"],
        action=row["action"],
        principal=row["principal"],
        subject=row["subject"],
        resource=row["resource"],
        agent=row["agent"],
        run=row["run"],
        rules=tuple(row["rules"]),
        labels=frozenset(row["labels"]),
        arguments=_arguments(kernel, row["operation"]),
        count=row["count"],
        approvers=tuple(row["approvers"]),
        votes=tuple(Vote(*vote) for vote in row["votes"]),
        asked_us=row["at_us"],
        expires_us=row["expires_us"],
        modified=row["modified"],
        seq=row["seq"],
    )


class Approvals:
    """Of one runtime."""

    def __init__(self, runtime: Runtime, kernel: Kernel, bridge: Bridge) -> None:
        self._runtime = runtime
        self._kernel = kernel
        self._bridge = bridge
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    def list(self) -> list[Approval]:
        """All of them, oldest first."""
        return [_approval(self._kernel, row) for row in self._kernel.approvals()]

    def get(self, identity: str) -> Approval | None:
        """One, by its id; None where nothing of it waits any more.

        Raises:
            InputError: it is no id.
        """
        row = self._kernel.approval(identity)
        return None if row is None else _approval(self._kernel, row)

    def unknown(self) -> _Rows:
        """External operations of which nobody knows whether they happened, oldest first."""
        return self._kernel.unknown_operations()

    async def approve(self, identity: str, *, token: str, by: str | None = None) -> int:
        """A person agrees. Answers the record, which is on disk.

        Args:
            identity: The approval's id.
            token: The person's own operator token.
            by: The operator, `operator:<uid>`; None: the user this process runs as.

        Raises:
            PolicyDenied: not a token; whoever asked; not one of those that the rule names.
            InputError: nothing of this id waits, or it is decided.
        """
        return await self._say(identity, "approve", token, by)

    async def deny(self, identity: str, *, token: str, by: str | None = None) -> int:
        """A person says no. It stays so until its time is over. Otherwise as `approve`."""
        return await self._say(identity, "deny", token, by)

    async def modify(
        self, identity: str, arguments: Mapping[str, Any], *, token: str, by: str | None = None
    ) -> int:
        """A person agrees to it with other content. Who agreed before must agree again. As `approve`.

        Args:
            identity: The approval's id.
            arguments: Of a tool call the arguments; of a run its input; of a message one of `text`, `base64`, `parts`;
                of a document its `readers`. Agents, policies, sandboxes, searches are approved or denied as they are.
            token, by: As `approve`.
        """
        try:
            given = json.dumps(dict(arguments), allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise InputError(f"the arguments cannot pass as JSON: {error}") from None
        return await self._say(identity, "modify", token, by, given)

    async def _say(
        self, identity: str, word: str, token: str, by: str | None, arguments: bytes | None = None
    ) -> int:
        from symbi.operators import check_token

        name = await asyncio.to_thread(check_token, self._runtime.data, token)  # AP1
        by = by or f"operator:{os.getuid()}"
        try:
            seq = await asyncio.to_thread(self._kernel.say, by, name, identity, word, arguments)
        except PolicyDenied as denied:
            await self._bridge.durable(denied.seq)
            raise
        self.bell()
        return seq

    async def resolve(
        self, operation: str, outcome: Literal["done", "failed"], *, token: str, by: str | None = None
    ) -> int:
        """Say what became of an unknown operation. `failed` gives back what it had reserved.

        Raises:
            PolicyDenied: not a token. InputError: no such unknown operation.
        """
        from symbi.operators import check_token

        await asyncio.to_thread(check_token, self._runtime.data, token)
        if outcome not in ("done", "failed"):
            raise InputError("a resolution is `done` or `failed`")
        seq = self._kernel.resolve(by or f"operator:{os.getuid()}", operation, outcome == "done")
        await self._bridge.durable(seq)
        return seq

    # Within

    async def wait(self, denied: PolicyDenied, timeout_s: float | None) -> bytes | None:
        """Wait until persons have decided what `denied` says must wait; then it is to be asked for again (AP3).

        Answers the content that they changed it to, as they were shown it; None where they changed nothing.

        Raises:
            PolicyDenied: they said no; or, with `denied` itself, it does not wait, or its time or `timeout_s` seconds
                are over.
        """
        if denied.code != "needs_approval" or not denied.approval or timeout_s == 0:
            raise denied
        end = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        expires_us = 0
        while True:
            row = self._kernel.approval(denied.approval)
            if row is None:
                if time_ns() // 1000 < expires_us:
                    return None  # another that asked for the same has used it
                raise denied
            expires_us = row["expires_us"]
            if row["state"] == "denied":
                raise PolicyDenied(
                    "a person has said no",
                    code="denied",
                    decision_id=denied.decision_id,
                    approval=denied.approval,
                )
            if row["state"] == "approved":
                break
            left = min(max(0.0, row["expires_us"] / 1e6 - time_ns() / 1e9) + 0.05, _POLL_S)
            if end is not None:
                left = min(left, end - asyncio.get_running_loop().time())
                if left <= 0:
                    raise denied
            await self._changed(denied.approval, left)
            if (gate := GATE.get()) is not None:
                await gate.passing()
        if not row["modified"]:
            return None
        changed = self._kernel.approval_arguments(denied.approval)
        if changed is None:
            raise denied
        return changed

    async def after(self, act: Callable[[], Awaitable[_T]], timeout_s: float | None) -> _T:
        """Do `act`; where persons must agree first, once they have. What they may not change (AP3)."""
        while True:
            try:
                return await act()
            except PolicyDenied as denied:
                await self.wait(denied, timeout_s)

    async def _changed(self, identity: str, timeout_s: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(identity, []).append(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            pass  # looked at again: it may have been decided, or its time may be over (AP2)
        finally:
            futures = self._waiting.get(identity, [])
            if future in futures:
                futures.remove(future)
            if not futures:
                self._waiting.pop(identity, None)

    def bell(self) -> None:
        """The kernel rang: somebody may have decided (AP2)."""
        for identity in list(self._waiting):
            row = self._kernel.approval(identity)
            if row is None or row["state"] != "waiting":
                for future in self._waiting.pop(identity, []):
                    if not future.done():
                        future.set_result(None)
