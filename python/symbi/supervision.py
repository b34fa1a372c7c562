"""What follows when an agent fails: retries, restarts, the end; and the tasks that failed for good.

Why: an agent says how it wants to be supervised, next to its other limits. Whether a failure is tried again is decided
and recorded in the kernel.
Not here: classes of errors, budgets, breakers, the journal of effects (the native core).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from symbi.errors import InputError

if TYPE_CHECKING:
    from symbi.runtime import Runtime

__all__ = ["DeadTask", "Supervision", "dead_tasks"]

_RANGES: Final[dict[str, tuple[float, float]]] = {
    "retries": (0, 100),
    "backoff_ms": (0, 3_600_000),
    "backoff_max_ms": (0, 3_600_000),
    "restarts": (0, 1_000),
    "window_s": (0.001, 86_400),
}
_WORDS_MAX: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """What follows when a task of an agent fails. Without one nothing does: the caller gets the error.

    Retries are granted within budgets: ten at once for all instances of an agent's name and one more each six seconds,
    two hundred for the runtime; ten tasks that are done pay for one. A retry runs the code from the start; a tool call
    that was recorded as done is not made again, but answered with its recorded result.

    Args:
        retries: Of one task after its first attempt, 0 to 100.
        backoff_ms: The first delay, milliseconds; it doubles with each attempt.
        backoff_max_ms: The longest delay, milliseconds, `backoff_ms` to 3600000.
        jitter: `full`: anywhere between nothing and the whole delay. `none`: the whole delay.
        retry_on: Codes of errors, names of exception classes, or classes of error, that are tried again besides
            `transient` and what no rule names (`other`).
        never_retry: The same, that are not. Stronger than `retry_on`.
        restarts: Failed tasks within the window that restart the worker, 0 to 1000; one more ends the agent. None: it
            is never ended.
        window_s: The window, seconds, up to a day.

    Raises:
        InputError: a value that cannot be; the text names it and what is accepted.
    """

    retries: int = 3
    backoff_ms: int = 200
    backoff_max_ms: int = 30_000
    jitter: Literal["full", "none"] = "full"
    retry_on: tuple[str, ...] = ()
    never_retry: tuple[str, ...] = ()
    restarts: int | None = None
    window_s: float = 60.0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if name == "restarts" and value is None:
                continue
            kind = int | float if name == "window_s" else int
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                raise InputError(f"`{name}` must be {low} to {high}, and is {value!r}")
        if self.backoff_max_ms < self.backoff_ms:
            raise InputError("`backoff_max_ms` must not be less than `backoff_ms`")
        if self.jitter not in ("full", "none"):
            raise InputError(f"`jitter` is `full` or `none`, not {self.jitter!r}")
        for name in ("retry_on", "never_retry"):
            words = getattr(self, name)
            if (
                isinstance(words, str)
                or not all(isinstance(word, str) and 1 <= len(word.encode()) <= 64 for word in words)
                or len(words) > _WORDS_MAX
            ):
                raise InputError(f"`{name}` is a list of at most {_WORDS_MAX} words of 1 to 64 bytes")
            object.__setattr__(self, name, tuple(words))

    def row(self) -> tuple[int, int, int, str, list[str], list[str], int | None, int]:
        """As it crosses into the kernel, which checks it again."""
        return (
            self.retries,
            self.backoff_ms,
            self.backoff_max_ms,
            self.jitter,
            list(self.retry_on),
            list(self.never_retry),
            self.restarts,
            max(1, round(self.window_s * 1000)),
        )


@dataclass(frozen=True, slots=True)
class DeadTask:
    """A task of a supervised agent that failed for good.

    Attributes:
        task, run: Its first run and its last.
        agent, name: Whose it was: the agent's id and name.
        attempts: How often it was tried.
        error_class, code: What the last failure was.
        reason: Why it was not tried again: `kind`, `attempts`, `agent_budget`, `runtime_budget`, `effects` (a result
            was not kept, so an effect would have happened twice), `given_up` (its caller or its agent went away).
        at_us: When, microseconds since the epoch.
        input_sealed, text_sealed: Its input, and what the last failure said, sealed; empty where there was none, or the
            input was larger than 64 KiB. `Runtime.kernel.unseal` opens them.
    """

    task: str
    run: str
    agent: str
    name: str
    attempts: int
    error_class: str
    code: str
    reason: str
    at_us: int
    input_sealed: str
    text_sealed: str


def dead_tasks(runtime: Runtime) -> list[DeadTask]:
    """As `Runtime.dead_tasks`."""
    rows, _ = runtime.kernel.dead_tasks()
    return [DeadTask(**row) for row in rows]
