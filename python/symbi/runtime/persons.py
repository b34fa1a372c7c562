"""Persons whose data a runtime holds: forgotten, held, named.

Why: what carries a person's label is sealed under a key of that person, wherever it lies. Forgetting destroys the key
and empties what can be emptied; the trail stays as it was signed.
Not here: the keys and what an erasure does (the kernel), the socket (`symbi.control`), tables (`symbi.cli`).

Invariants
- PE1 a person is erased when its answer comes: the records are on disk, the key is not.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from symbi.errors import InputError, SymbiError
from symbi.runtime.leaving import Leaving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from symbi.runtime import Runtime

__all__ = ["PERSON_COMMANDS", "Erasure", "Hold", "Persons"]


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure did, or would do.

    Attributes:
        subject: The person's pseudonym, 32 hex digits: what stands in records.
        places: How much there was, by place: `knowledge` passages, `documents`, `mailboxes`, `deliveries`, ….
        agents: `(id, name)` of agents that have read it: they may do nothing any more until they are scheduled anew.
        backups_unreached: Backup directories of keys that were not there: the key still lies in them, and each opening
            tries again.
        held: Of a trial: a legal hold would refuse it.
        seq: The record of its end; None of a trial.
    """

    subject: str
    places: dict[str, int]
    agents: list[tuple[str, str]] = field(default_factory=list)
    backups_unreached: list[str] = field(default_factory=list)
    held: bool = False
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold: while it stands, the person is not erased.

    Attributes:
        subject: The person's pseudonym. name: Who it is. reason: Why.
        by: Who placed it. at_us: When, microseconds since the epoch. seq: The record.
    """

    subject: str
    name: str | None
    reason: str
    by: str
    at_us: int
    seq: int


class Persons:
    """`rt.persons`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def erase(self, subject: str, *, by: str = "host", dry_run: bool = False) -> list[Erasure]:
        """Forget a person: destroy its key, here and in the backup directories, and empty what held something of it.

        Args:
            subject: As it was named when values were stored, or its pseudonym.
            by: Who asks. The built-in policies let operators erase, `operator:<uid>`; a policy of yours may let others,
                or ask for an approval.
            dry_run: Only say what there is. Nothing is decided, recorded or changed.

        Returns:
            One for each pseudonym that the person had: one, unless files of names were lost.

        Raises:
            PolicyDenied: refused, by policy or by a legal hold; or a person must agree first.
            InputError: nothing is known of the subject.
            KnowledgeError: the erasure is recorded and not finished, because another program reads `state.db`: erase
                the pseudonym that it names when that has ended. The next opening finishes it, too.

        Cost: the knowledge file is written anew where something was in it; otherwise about ten milliseconds.
        """
        kernel = self._runtime.kernel
        if dry_run:
            rows = await asyncio.to_thread(kernel.try_erasure, subject)
        else:
            async with Leaving(self._runtime, "erasure"):
                rows = await asyncio.to_thread(kernel.erase_subject, by, subject)
        erased = [_erasure(row) for row in rows]
        if not dry_run:
            self._runtime.dispatcher.messaging.let_go({f"subject.{one.subject}" for one in erased})
        return erased

    async def hold(self, subject: str, reason: str, *, by: str = "host") -> int:
        """Place a legal hold: the person is not erased while it stands. Answers the record.

        Raises:
            PolicyDenied: refused; the action is `key.change`, the resource `Key::"subject/<pseudonym>"`.
        """
        async with Leaving(self._runtime, "erasure"):
            return await asyncio.to_thread(self._runtime.kernel.change_hold, by, subject, reason)

    async def release(self, subject: str, *, by: str = "host") -> int:
        """End a legal hold. Answers the record.

        Raises:
            PolicyDenied: refused. InputError: there is none.
        """
        async with Leaving(self._runtime, "erasure"):
            return await asyncio.to_thread(self._runtime.kernel.change_hold, by, subject, None)

    def holds(self) -> list[Hold]:
        """Persons under a legal hold."""
        kernel = self._runtime.kernel
        return [
            Hold(subject, kernel.subject_name(subject), _text(kernel.unseal, reason), by, at_us, seq)
            for subject, reason, by, at_us, seq in kernel.holds()
        ]

    async def pseudonym(self, subject: str) -> str | None:
        """What stands in records for a person; None where nothing is known.

        Cost: of somebody who is not known, a look at the key file of everybody.
        """
        return await asyncio.to_thread(self._runtime.kernel.pseudonym_of, subject)


def _text(unseal: Callable[[str], bytes], sealed: str) -> str:
    try:
        return unseal(sealed).decode()
    except SymbiError:
        return ""


def _erasure(row: dict[str, Any]) -> Erasure:
    return Erasure(
        subject=row["subject"],
        places=dict(row["places"]),
        agents=[tuple(agent) for agent in row["agents"]],
        backups_unreached=[str(path) for path in row["backups_unreached"]],
        held=row["held"],
        seq=row["seq"],
    )


# What an operator may ask


def _subject(request: dict[str, Any]) -> str:
    subject = request.get("subject")
    if not isinstance(subject, str):
        raise InputError("`subject` is a text")
    return subject


async def _erase(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    erased = await runtime.persons.erase(_subject(request), by=by, dry_run=request.get("dry_run") is True)
    return [asdict(one) for one in erased]


async def _hold(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    if request.get("verb") == "list":
        return [asdict(hold) for hold in runtime.persons.holds()]
    if request.get("verb") == "remove":
        return {"seq": await runtime.persons.release(_subject(request), by=by)}
    return {"seq": await runtime.persons.hold(_subject(request), str(request.get("reason", "")), by=by)}


PERSON_COMMANDS: Final[dict[str, Callable[[Runtime, str, dict[str, Any]], Awaitable[Any]]]] = {
    "audit.erase": _erase,
    "persons.hold": _hold,
}
