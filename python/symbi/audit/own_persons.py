"""Persons of a log that an application keeps for itself: their values are sealed, and can be forgotten.

    log.append("order.placed", "shop", {"number": 7}, subject="customer-17", personal={"name": "Jane Roe"})
    log.personal(event)          # {"name": "Jane Roe"}, for whoever has the keys
    log.erase("customer-17")     # the key is gone; the record, the chain and every proof stay

The keys lie in `<directory>.persons`, beside the log and not in it, as its own key does. In a record stands a
pseudonym that was drawn, and what is sealed. An erasure is recorded before the key is touched and after it.
Not here: keys and seals (`symbi-kernel`'s `own_persons`), a runtime's persons (`rt.persons`).

Invariants
- AP1 an erasure whose record is on disk is finished, by this opening or the next; a key that comes back from a copy is
  destroyed again.
- AP2 what the log says was erased is not opened, whatever keys lie about.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symbi import _core
from symbi.errors import AuditError, CryptoError, ErasedError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from symbi.audit.event import AuditEvent
    from symbi.audit.log import AuditLog
    from symbi.audit.reading import TrailReading

__all__ = ["Forgotten", "LogPersons", "persons_path"]

_BEGUN, _DONE = "subject.erasing", "subject.erased"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What an erasure did: whose key is gone, which record says so, and backups of it that could not be reached.

    Where there are such, each opening of the log tries again.
    """

    subject: str
    seq: int
    backups_unreached: tuple[Path, ...] = ()


def persons_path(directory: str | os.PathLike[str]) -> Path:
    """Where an application's log in `directory` keeps the keys of persons: `<directory>.persons`."""
    path = Path(directory).absolute()
    return path.with_name(path.name + ".persons")


class LogPersons:
    """The persons of one log. Their directory is made when the first value is sealed."""

    def __init__(self, directory: Path, backups: Sequence[str | os.PathLike[str]] = ()) -> None:
        self._place = persons_path(directory)
        self._backups = [os.fspath(backup) for backup in backups]
        self._core: _core.OwnPersons | None = None

    def _known(self) -> _core.OwnPersons | None:
        if self._core is None and self._place.is_dir():
            self._core = _core.OwnPersons(os.fspath(self._place), self._backups, may_make=False)
        return self._core

    def seal(self, subject: str, text: str) -> tuple[str, str]:
        """The pseudonym, and the text sealed for that person, whose key is on disk then."""
        if self._core is None:
            self._core = _core.OwnPersons(os.fspath(self._place), self._backups, may_make=True)
        return self._core.seal(subject, text)

    def pseudonyms(self, subject: str) -> list[str]:
        """Of a person, named or by pseudonym; empty where no value of it was sealed here."""
        known = self._known()
        return [] if known is None else known.known(subject)

    def open(self, log: TrailReading, event: AuditEvent) -> dict[str, Any]:
        """The personal values of a record. See `AuditLog.personal`."""
        values: dict[str, Any] = {}
        for pseudonym, sealed in (event.personal or {}).items():
            known = self._known()
            if known is None:
                raise CryptoError(f"the keys of persons are not here: they lie in `{self._place}`")
            if log.query(subject=pseudonym, event_type="subject.eras*", limit=1):  # AP2
                raise ErasedError("the person that it belongs to was erased")
            values.update(json.loads(known.unseal(sealed)))
        return values

    def erase(self, log: AuditLog, subject: str, by: str) -> list[Forgotten]:
        """See `AuditLog.erase`."""
        found = self.pseudonyms(subject)
        if not found:
            raise InputError("nothing is known of this subject: no value was stored for it, or it was erased")
        hold = log.held
        if hold is not None:
            raise AuditError(f"a legal hold is in force since record {hold.seq}: {hold.reason}")
        done = []
        for pseudonym in found:
            log.append(_BEGUN, None, {"person": pseudonym, "by": by}, subject=pseudonym)
            done.append(self._carry_out(log, pseudonym, "asked"))
        return done

    def finish(self, log: AuditLog) -> None:
        """AP1: what a crash cut short, and keys that came back."""
        known = self._known()
        if known is None:
            return
        finished: dict[str, bool] = {}
        for event in log.query(event_type="subject.eras*"):
            for pseudonym in event.subjects:
                finished[pseudonym] = event.event_type == _DONE and not event.details.get("backups_unreached")
        known.mark_erased(list(finished))
        for pseudonym, is_done in finished.items():
            if not is_done or known.lies_about(pseudonym):
                self._carry_out(log, pseudonym, "key_came_back" if is_done else "cut_short")

    def _carry_out(self, log: AuditLog, pseudonym: str, cause: str) -> Forgotten:
        known = self._known()
        unreached = [] if known is None else known.destroy(pseudonym)
        details: Mapping[str, Any] = {
            "person": pseudonym,
            "cause": cause,
            "backups_unreached": len(unreached),
        }
        seq = log.append(_DONE, None, details, subject=pseudonym).seq
        return Forgotten(pseudonym, seq, tuple(unreached))
