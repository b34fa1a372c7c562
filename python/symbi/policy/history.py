"""The trail under other policies: what would have fallen differently, and which policies would cover what was.

    found = what_if(Path(".symbi"), ["next.cedar", "secure-default"], since=…)
    found.flips                 # Flip(seq, time, principal, action, resource, was, now, cause)
    learn(Path(".symbi")).text  # Cedar

Why: a change of policy is tried on last month before it is tried on people. The loop is native: this only names what
is meant and what came out.
Not here: counters that were not kept then, which make a decision `undecidable`; printing.

Invariants
- PH1 there is an answer only where the whole trail verifies: `ChainBrokenError` otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from symbi import _core
from symbi.config.passphrase import key_passphrase
from symbi.errors import InputError
from symbi.policy.sources import read_policies

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Flip", "Learned", "WhatIf", "learn", "what_if"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Flip:
    """A recorded decision that would fall differently.

    Attributes:
        seq: Its record.
        time: Of the record.
        principal: Who asked, as policy sees it.
        action: For what.
        resource: On what.
        was: `allow`, `deny`, or what was owed, such as `redact` or `approval+redact`. What was let through unenforced
            is `deny`.
        now: The same, under the other policies.
        cause: `rule`, `no_permit`, or why the other set could not decide it, such as `forbid_failed`.
        rule: The rule that decides now.
    """

    seq: int
    time: datetime
    principal: str
    action: str
    resource: str
    was: str
    now: str
    cause: str
    rule: str | None


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The answer.

    Attributes:
        records: Of the trail, all of which verified.
        head: The link of the last, 64 hex digits.
        level: How far the verification's word goes: `consistent`, `authentic`, or `complete` for the
            first `complete_to`.
        complete_to: How many records the checkpoint that was given vouches for; 0 without one.
        decided: Decisions that were made again.
        flips: Those that fall differently, in order, at most 10,000.
        flipped: How many those are in all.
        undecidable: Decisions that could not be made again, by reason: `erased` (sealed, and its keys are gone),
            `not_recorded`, `counter_not_kept`, `malformed`.
    """

    records: int
    head: str
    level: str
    complete_to: int
    decided: int
    flips: tuple[Flip, ...]
    flipped: int
    undecidable: dict[str, int]


@dataclass(frozen=True, slots=True)
class Learned:
    """Proposed policies. `operations`: how many they cover; `undecidable` as in `WhatIf`: those they do not."""

    records: int
    head: str
    level: str
    complete_to: int
    text: str
    rules: int
    operations: int
    undecidable: dict[str, int]


def what_if(
    data: Path,
    policies: Iterable[str | Path],
    *,
    trail: Path | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    key: str | None = None,
    checkpoint: str | None = None,
    threads: int = 0,
) -> WhatIf:
    """Decides recorded operations again under other policies, and verifies the trail on the way.

    Args:
        data: The data directory; its keys open what is sealed.
        policies: Paths, and names of starter policies.
        trail: The trail, where it is not in `data`.
        since: At this time or later.
        until: Before this time.
        key: A fingerprint that was kept elsewhere: raises the level to `authentic`.
        checkpoint: The text of a checkpoint that was kept elsewhere (`symbi audit checkpoint`): what it covers is taken
            from its root, without single signatures.
        threads: Native threads that decide; 0 takes one a core.

    Raises:
        ChainBrokenError: the trail does not verify. There is no answer then (PH1).
        PolicyError: the policies do not compile.

    Cost: one pass over the whole trail, without the GIL; `symbi bench decide` has its rates.
    """
    texts = read_policies(policies)
    (records, head, level, complete_to), decided, flips, flipped, undecidable = _core.policy_what_if(
        data,
        trail or data / "trail",
        list(texts.sources),
        list(texts.counters),
        (_microseconds(since), _microseconds(until)),
        key,
        checkpoint,
        threads,
        key_passphrase(),
    )
    told = tuple(Flip(flip[0], _EPOCH + timedelta(microseconds=flip[1]), *flip[2:]) for flip in flips)
    return WhatIf(records, head, level, complete_to, decided, told, flipped, dict(undecidable))


def learn(
    data: Path,
    *,
    trail: Path | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    key: str | None = None,
    checkpoint: str | None = None,
    threads: int = 0,
) -> Learned:
    """Proposes the least policies that allow every operation that was allowed or let through. Arguments, errors and
    cost as for `what_if`."""
    (records, head, level, complete_to), text, rules, operations, undecidable = _core.policy_learn(
        data,
        trail or data / "trail",
        (_microseconds(since), _microseconds(until)),
        key,
        checkpoint,
        threads,
        key_passphrase(),
    )
    return Learned(records, head, level, complete_to, text, rules, operations, dict(undecidable))


def _microseconds(time: datetime | None) -> int | None:
    if time is None:
        return None
    if time.tzinfo is None:
        raise InputError(f"`{time.isoformat()}` has no time zone")
    return (time - _EPOCH) // timedelta(microseconds=1)
