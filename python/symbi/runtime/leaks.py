"""The leak monitor: how many there are of everything that comes and goes, and whether a number only ever grows.

Why: what is forgotten shows neither in a test of a minute nor in an error; it shows as a number that is higher every
minute. The numbers are taken while something happens, once a minute, and when somebody asks.
Not here: letting go of anything (the kernel's collector).

Invariants
- LK1 a kind is reported when each of the last `SAMPLES` numbers was higher than the one before, by `GROWTH_MIN` in all;
  one number that is not higher ends it.
- LK2 what is remembered is bounded: `SAMPLES` numbers and the highest of each kind.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["GROWTH_MIN", "SAMPLES", "SAMPLE_S", "LeakMonitor"]

SAMPLES: Final = 9
"""Numbers in a row, so eight minutes of growth: a start that schedules ten thousand agents is over in seconds."""

SAMPLE_S: Final = 60.0
"""Between two numbers."""

GROWTH_MIN: Final = 64
"""Growth in all that is worth a word: a few objects more are caches that fill."""


class LeakMonitor:
    """Counts, by kind.

    Args:
        count: How many there are now, by kind. Cost: up to a millisecond with ten thousand agents.
        now: A monotonic clock, seconds.
    """

    def __init__(
        self, count: Callable[[], Mapping[str, int]], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._count = count
        self._now = now
        self._samples: dict[str, deque[int]] = {}
        self._next_s = 0.0
        self.highest: dict[str, int] = {}

    def look(self) -> None:
        """Take a number of each kind, if the last is a minute old."""
        now_s = self._now()
        if now_s < self._next_s:
            return
        pauses = (now_s - self._next_s) / SAMPLE_S if self._next_s else 0.0
        if pauses >= 1:  # nothing happened for a while: it did not grow
            self._samples.clear()
        self._next_s = now_s + SAMPLE_S
        for kind, number in self.counts().items():
            self._samples.setdefault(kind, deque(maxlen=SAMPLES)).append(number)  # LK2

    def counts(self) -> dict[str, int]:
        """How many there are now, by kind; the highest of each are kept."""
        numbers = dict(self._count())
        for kind, number in numbers.items():
            self.highest[kind] = max(number, self.highest.get(kind, 0))
        return numbers

    def growing(self) -> dict[str, tuple[int, int]]:
        """The kinds that only grow, each with its number at first and now (LK1)."""
        return {
            kind: (numbers[0], numbers[-1])
            for kind, numbers in self._samples.items()
            if len(numbers) == SAMPLES
            and all(numbers[at] < numbers[at + 1] for at in range(SAMPLES - 1))
            and numbers[-1] - numbers[0] >= GROWTH_MIN
        }
