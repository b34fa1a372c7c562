"""What a scheduler says of itself: why a task is where it is, what should move, how much there is.

Not here: the reasons themselves (the native core); these are their words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

__all__ = ["Lack", "Move", "Reason", "Stats", "Why"]

Reason: TypeAlias = Literal[
    "next", "turn", "agent_busy", "agent_queue", "lacks", "held_by", "quota", "reserved", "held"
]


class Lack(NamedTuple):
    """A resource of which less is there than a task needs, in the resource's unit."""

    resource: str
    need: float
    have: float


class Move(NamedTuple):
    """A running task that would better run elsewhere."""

    id: int
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Why:
    """Where a task stands, and why.

    Attributes:
        id: The task.
        state: `waiting`, `running`, `suspending` (it was asked to stand still) or `suspended`.
        reason: What it waits for; None for one that runs. `next` and `turn`: only its turn; `lacks`: what it needs is
            not free; `held_by`: a task before it waits for what is free; `agent_busy`, `agent_queue`: its agent does
            another first; `quota`: its tenant holds as much as it may; `reserved`: room is being made for it; `held`:
            its release.
        text: All of it as a sentence.
        position: Waiting tasks that stand before it.
        node: Where it runs or stands still, or the node that comes nearest, or the one where room is made.
        task: The other task that the reason speaks of.
        tenant: With `quota`.
        lacks: What is lacking there.
    """

    id: int
    state: Literal["waiting", "running", "suspending", "suspended"]
    text: str
    reason: Reason | None = None
    position: int | None = None
    node: int | None = None
    task: int | None = None
    tenant: int | None = None
    lacks: tuple[Lack, ...] = ()

    @classmethod
    def of(cls, task: int, told: dict[str, Any]) -> Why:
        """From what the native core tells."""
        told["lacks"] = tuple(_lack(*lack) for lack in told.get("lacks", ()))
        return cls(task, text=_sentence(task, told), **told)


def _lack(resource: str, need: int, have: int) -> Lack:
    if resource == "cpu_millicores":
        return Lack("cpu_cores", need / 1_000, have / 1_000)
    return Lack(resource, need, have)


def _sentence(task: int, told: dict[str, Any]) -> str:
    node, other = told.get("node"), told.get("task")
    state = told["state"]
    if state == "running":
        return f"task {task} runs on node {node}"
    if state == "suspending":
        return f"task {task} runs on node {node} until it stands still for task {other}"
    if state == "suspended":
        return f"task {task} stands still on node {node}, {_standing(told)}"
    before = told["position"]
    stand = f"{before} tasks stand before it" if before != 1 else "1 task stands before it"
    return f"task {task} waits: {_waiting(told)}; {stand if before else 'none stands before it'}"


def _standing(told: dict[str, Any]) -> str:
    why = f"for task {told['task']}, " if told.get("task") is not None else ""
    if told["reason"] == "held":
        return f"{why}and is held until its release"
    if told["reason"] == "lacks":
        return f"{why}and lacks there {_lacking(told['lacks'])}"
    return f"{why}and goes on next"


def _waiting(told: dict[str, Any]) -> str:
    node, other = told.get("node"), told.get("task")
    near = (
        "no node that takes tasks is large enough for it"
        if node is None
        else f"node {node} comes nearest and lacks"
    )
    words = {
        "next": "it starts next",
        "turn": "what it needs is free, and it is not its turn",
        "agent_busy": f"its agent is at work on task {other}",
        "agent_queue": f"its agent does task {other} first",
        "lacks": f"{near}: {_lacking(told['lacks'])}"
        if node is None
        else f"{near} {_lacking(told['lacks'])}",
        "held_by": f"task {other} waits for what is free",
        "quota": f"tenant {told.get('tenant')} holds as much as it may"
        + (f": {_lacking(told['lacks'])}" if told["lacks"] else ", and an older task of it goes first"),
        "reserved": f"room is made for it on node {node}",
        "held": "it is held until its release",
    }
    return words[told["reason"]]


def _lacking(lacks: tuple[Lack, ...]) -> str:
    return ", ".join(f"`{lack.resource}` ({lack.need:g} needed, {lack.have:g} there)" for lack in lacks)


@dataclass(frozen=True, slots=True)
class Stats:
    """How many tasks are where, and how much there is of what.

    Attributes:
        waiting: They wait for their start, by tier.
        running: They were handed out and run, by tier.
        suspending: They were asked to stand still and run on until they do, by tier.
        suspended: They stand still, by tier.
        deadlines_missed: Realtime tasks that were over after their deadline, so far.
        preemptions: Standstills asked for, so far.
        capacity: What all nodes have together, by resource; infinite where at least one does not count.
        allocated: What tasks hold.
        reserved: What is kept for urgent tasks until others stand still.
    """

    waiting: dict[str, int]
    running: dict[str, int]
    suspending: dict[str, int]
    suspended: dict[str, int]
    deadlines_missed: int
    preemptions: int
    capacity: dict[str, float]
    allocated: dict[str, float]
    reserved: dict[str, float]
