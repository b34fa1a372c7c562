"""Provenance: what led to a recorded operation, back through the run that did it.

    tree = trace(log, 157)
    for source in tree.sources: source.relation, source.event, source.sources

An operation of a run can have drawn on: the task the run was given, the documents it had read, the results of the
tools it had called, the messages it had received. Each of them stands in the trail before the operation, and has
sources of its own: who wrote the document, what the sender of the message knew. This walks those records; it
guesses no influence.
Not here: what a model made of what it read. What a run had read before a call is what can have led to it, no less
and no more.

Invariants
- TR1 every node is a record of the trail, and every source stands before what it led to.
- TR2 a relation says whether the record shows it (`read`, `acknowledged`) or only that it can be (`sent to it`).
- TR3 what a bound cut off is said, never dropped in silence.
- TR4 a message is named with its place under the root that its record has, so that it is shown without the others.
"""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from symbi.audit.message_proof import ENTRY_BYTES, MessageProof
from symbi.errors import InputError

if TYPE_CHECKING:
    from symbi.audit.event import AuditEvent
    from symbi.audit.log import AuditLog

__all__ = ["Source", "find", "trace"]

_DIGITS_MAX = 18
DEPTH = 4  # operations one behind the other
NODES_MAX = 300
_RUN_MAX = 1_000  # records of a run that are looked at, the nearest ones
_MESSAGES_MAX = 20  # messages to one agent, the nearest ones

_READS = ("data.read", "data.search", "knowledge.search", "memory.read")


@dataclass(slots=True)
class Source:
    """A record, and what led to it.

    Attributes:
        relation: How it led to the record above: `asked about` for the one that was named, `decided in`, `task`,
        `read`,
            `found by`, `result of`, `acknowledged`, `sent to it`, `written by`, `brought in by`, `retry of`.
        event: The record.
        sources: What led to it, the nearest first.
        left_out: How many sources a bound cut off.
        seen: It stands in the tree already, where its sources are.
    """

    relation: str
    event: AuditEvent
    sources: list[Source] = field(default_factory=list)
    left_out: int = 0
    seen: bool = False

    @property
    def messages(self) -> tuple[str, ...]:
        """The messages that the record names: ordinary ones share one, up to 256."""
        return tuple(_message_ids(self.event))

    def proofs(self) -> list[MessageProof]:
        """Of each of these messages: its place among the others (TR4). `log.prove` proves the record.

        Raises:
            CryptoError: the record's messages do not lead to its root.
        """
        found = [MessageProof.of(message, self.event) for message in self.messages]
        proofs = [one for one in found if one is not None]
        for one in proofs:
            one.check()
        return proofs

    def to_json(self, log: AuditLog | None = None) -> dict[str, Any]:
        """The tree as plain JSON values; with a log, each record with its proof, and each message with its own."""
        proven: dict[str, Any] = {}
        if log is not None:
            proven["proof"] = log.prove(self.event).text
            proven["message_proofs"] = [one.to_json() for one in self.proofs()]
        return {
            "relation": self.relation,
            "seq": self.event.seq,
            "event_id": self.event.event_id,
            "event": self.event.to_json(),
            "messages": list(self.messages),
            **proven,
            "left_out": self.left_out,
            "seen": self.seen,
            "sources": [source.to_json(log) for source in self.sources],
        }

    def events(self) -> list[AuditEvent]:
        """All records of the tree, each once, by number."""
        found = {self.event.seq: self.event}
        for source in self.sources:
            found.update((event.seq, event) for event in source.events())
        return [found[seq] for seq in sorted(found)]


def find(log: AuditLog, wanted: str | int) -> AuditEvent:
    """A record by its number, its event id, its operation or the id under which a refusal was told.

    Raises:
        InputError: the trail has none.
    """
    text = str(wanted)
    if text.isdecimal():
        # Longer than 64 bits can be, or of another script: no record's number, and nothing that the core could take.
        event = log.at(int(text)) if text.isascii() and len(text) <= _DIGITS_MAX else None
        if event is not None:
            return event
        raise InputError(f"the trail has no record {text}")
    for found in (
        log.query(event_id=text, limit=1),
        log.query(op=text, limit=1),
        log.query(decision_id=text, limit=1),
    ):
        if found:
            return found[0]
    raise InputError(f"the trail has no event, operation or decision `{text}`")


def trace(log: AuditLog, wanted: str | int, *, depth: int = DEPTH) -> Source:
    """What led to a record.

    Args:
        log: The trail.
        wanted: A number, an event id, an operation id or a decision id.
        depth: How many operations one behind the other are looked into.

    Raises:
        InputError: the trail has no such record.

    Cost: some queries an operation, 10 to 50 ms each on a large trail.
    """
    root = Source("asked about", find(log, wanted))
    walk = _Walk(log)
    walk.known.add(root.event.seq)
    walk.fill(root, depth)
    return root


class _Walk:
    def __init__(self, log: AuditLog) -> None:
        self.log = log
        self.known: set[int] = set()
        self.names: dict[str, str | None] = {}
        self.runs: dict[str, int] = {}  # up to which record their sources stand in the tree

    def fill(self, node: Source, depth: int) -> None:
        """Breadth first, so that a bound cuts off what is furthest."""
        level = [node]
        for _ in range(depth):
            following: list[Source] = []
            for one in level:
                following.extend(self.sources(one))
            level = following
        for one in level:  # TR3
            one.left_out += sum(1 for _ in self.direct(one.event))

    def sources(self, node: Source) -> list[Source]:
        new = []
        for relation, event in self.direct(node.event):
            if len(self.known) >= NODES_MAX:
                node.left_out += 1  # TR3
                continue
            child = Source(relation, event, seen=event.seq in self.known)
            node.sources.append(child)
            if not child.seen:
                self.known.add(event.seq)
                new.append(child)
        return new

    def direct(self, event: AuditEvent) -> list[tuple[str, AuditEvent]]:
        found: list[tuple[str, AuditEvent]] = []
        details = event.details
        if event.event_type in ("operation.outcome", "operation.replayed", "operation.resolved") and event.op:
            return [("decided in", one) for one in self.log.before(event.seq, 1, op=event.op)]
        action = details.get("action")
        if action == "data.read":
            writes = self.log.before(event.seq, 1, action="data.write", resource=str(details["resource"]))
            found += [("written by", one) for one in writes]
        elif action == "data.write" and isinstance(details.get("content"), str):
            found += [("brought in by", one) for one in self._brought_in(event)]
        if event.run is None or action in _READS:
            return found
        if action == "agent.run":
            retried = details.get("retry_of")
            if isinstance(retried, str):
                found += [
                    ("retry of", one) for one in self.log.before(event.seq, 1, run=retried, action=action)
                ]
            return found
        return found + self._run(event)

    def _run(self, event: AuditEvent) -> list[tuple[str, AuditEvent]]:
        """What the run had been given and had read before."""
        run = str(event.run)
        if event.seq <= self.runs.get(run, -1):
            return []  # of what was later in this run they were listed already
        self.runs[run] = event.seq
        found: list[tuple[str, AuditEvent]] = []
        before = self.log.before(event.seq, _RUN_MAX, run=run)
        acknowledged: set[str] = set()
        read: set[object] = set()
        for one in before:
            action = one.details.get("action")
            if action == "agent.run":
                found.append(("task", one))
            elif one.event_type == "operation.outcome":
                if one.op != event.op:
                    found.append(("result of", one))
            elif action == "data.read":
                if one.details.get("resource") not in read:  # the nearest reading of each stands for all
                    read.add(one.details.get("resource"))
                    found.append(("read", one))
            elif action in _READS:
                found.append(("found by", one))
            elif one.event_type == "message.finished":
                acknowledged.update(str(name) for name in one.details.get("messages", ()))
        return found + self._messages(event, acknowledged)

    def _messages(self, event: AuditEvent, acknowledged: set[str]) -> list[tuple[str, AuditEvent]]:
        name = self._name(event.agent_id)
        if name is None:
            return []
        entity = f"Agent::{_quoted(name)}"
        found = []
        for one in self.log.before(event.seq, _MESSAGES_MAX, resource=entity, event_type="operation*"):
            if not str(one.details.get("action", "")).startswith("message."):
                continue
            if one.details.get("recipient") in (None, event.agent_id):
                exact = not acknowledged.isdisjoint(_message_ids(one))
                found.append(("acknowledged" if exact else "sent to it", one))  # TR2
        return found

    def _brought_in(self, event: AuditEvent) -> list[AuditEvent]:
        content = event.details["content"]
        agent = event.agent_id
        near = self.log.before(event.seq, _RUN_MAX, action="data.write", agent_id=agent)
        near += self.log.before(event.seq, _RUN_MAX, action="data.write")
        return [one for one in near if one.details.get("content") == content][:1]

    def _name(self, agent: str | None) -> str | None:
        if agent is None:
            return None
        if agent not in self.names:
            made = self.log.query(agent_id=agent, action="agent.create", limit=1)
            self.names[agent] = str(made[0].details.get("name")) if made else None
        return self.names[agent]


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _message_ids(event: AuditEvent) -> list[str]:
    """The messages that a record names, in order."""
    if not str(event.details.get("action", "")).startswith("message."):
        return []
    if isinstance(event.details.get("message"), str):
        return [event.details["message"]]
    entries = base64.b64decode(str(event.details.get("messages") or ""))
    return [str(uuid.UUID(bytes=entries[at : at + 16])) for at in range(0, len(entries), ENTRY_BYTES)]
