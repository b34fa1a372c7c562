"""What `scout` says, line by line: checked, counted, and brought into the knowledge base on scout's behalf.

Why checked: scout parses files that nobody has vouched for. It is our own program, and still behind a pipe: a
line that is none of docs/formats/scout.md is refused.
Not here: what the labels mean (policy), what the words are (the knowledge base).

Invariants
- DI1 labels from scout only add: the kernel runs its own detectors over every text that is brought in.
- DI2 of a secret passage nothing is kept but its place and digest.
- DI3 whatever was not read is counted under its reason.
- DI4 memory is bounded by one file and by counts, not by the size of the tree.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from symbi.context import Passage
from symbi.demo.questions import QuestionMaker
from symbi.errors import InputError

if TYPE_CHECKING:
    from symbi.agents import AgentHandle
    from symbi.runtime import Runtime

__all__ = ["Intake", "Place", "Reading"]

UNDER_WAY_MAX = 64
"""Files whose record is not on disk yet; past it scout's pipe waits, which is the back-pressure."""

PLACES_MAX = 12
"""Places of secrets that are reported one by one; the rest are counted. Nobody reads a report of a thousand."""

_Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where something secret lies: bytes `start` to `end` of `path`, and the digest of what stands there."""

    path: str
    start: int
    end: int
    sha256: str
    kinds: tuple[str, ...]

    def __str__(self) -> str:
        kinds = " and ".join(kind.replace("_", " ") for kind in self.kinds) or "a secret"
        return (
            f"{self.path}, bytes {self.start} to {self.end}: {kinds}, withheld (SHA-256 {self.sha256[:16]}…)"
        )


@dataclass
class Reading:
    """What was read, and what was not.

    Attributes:
        files, bytes, passages: Read. `withheld`: passages kept as place and digest.
        labels: Files by label; a file may count twice.
        skipped: Not read, by reason. `left_out`: past the largest number of files.
        entries: Met in all. `complete`: the whole tree was walked.
        cut: Why reading ended early; empty when it did not.
        contents: Digests of what waits for its document, in the order of the files.
        copies: Files with the very same passages as one before them.
        places: Of secrets, the first few; `places_left`: how many more.
    """

    files: int = 0
    bytes: int = 0
    passages: int = 0
    withheld: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    entries: int = 0
    complete: bool = True
    cut: str = ""
    contents: list[str] = field(default_factory=list)
    copies: int = 0
    places: list[Place] = field(default_factory=list)
    places_left: int = 0


class Intake:
    """Takes scout's lines.

    Args:
        rt: The runtime. `scout`: on whose behalf things come in.
    """

    def __init__(self, rt: Runtime, scout: AgentHandle) -> None:
        self.reading = Reading()
        self.questions = QuestionMaker()
        self._rt = rt
        self._scout = scout
        self._path = ""
        self._passages: list[Passage] = []
        self._digests: list[str] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None
        self._ended = False

    async def hear(self, line: bytes) -> None:
        """Take one line.

        Raises:
            InputError: not a line of scout's.
            SymbiError: what it brought cannot be taken in.
        """
        try:
            shape = json.loads(line)
            kind = shape["type"]
            if kind == "passage":
                self._passage(shape)
            elif kind == "file":
                await self._next_file(str(shape["path"]))
                self._file(shape)
            elif kind == "skipped":
                pass  # counted in the summary (DI3); if none comes, `finish` says so
            elif kind == "summary":
                self._summary(shape)
            elif kind in ("refused", "failed"):
                raise InputError(f"scout cannot begin: {str(shape['message'])[:400]}")
            elif kind != "probe":
                raise InputError(f"`{str(kind)[:32]}` is no line of scout's")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"scout said something that is none of its lines: {type(error).__name__}"
            ) from None

    async def finish(self) -> Reading:
        """Wait until all is on disk; answers what was read."""
        await self._next_file("")
        while self._under_way:
            await asyncio.gather(*self._under_way, return_exceptions=True)
        self._raise()
        if not self._ended and not self.reading.cut:
            self.reading.cut = "scout ended before its summary: the rest was not read"
        # Content is named by its digest: a copy is the same content, and becomes one document.
        self.reading.contents = list(dict.fromkeys(self._digests))
        self.reading.copies = len(self._digests) - len(self.reading.contents)
        return self.reading

    def _file(self, shape: _Line) -> None:
        self.reading.files += 1
        self.reading.bytes += int(shape["bytes"])
        self.reading.labels.update(_texts(shape["labels"]))

    def _passage(self, shape: _Line) -> None:
        if str(shape["path"]) != self._path:
            raise InputError("scout said a passage of another file than its last")
        start, end, text = int(shape["start"]), int(shape["end"]), shape["text"]
        labels = _texts(shape["labels"])
        findings = shape["findings"]
        self.reading.passages += 1
        if text is None or "secret" in labels:  # DI2
            self.reading.withheld += 1
            self._passages.append(Passage(None, start, end, labels, str(shape["sha256"])))
            self._places(shape, findings)
            return
        if not isinstance(text, str):
            raise InputError("the text of a passage is a text")
        self._passages.append(Passage(text, start, end, labels))
        self.questions.hear(
            text, [(int(one["start"]) - start, int(one["end"]) - start) for one in findings], labels
        )

    def _places(self, shape: _Line, findings: list[_Line]) -> None:
        secret = [one for one in findings if one["label"] == "secret"]
        if len(self.reading.places) >= PLACES_MAX:
            self.reading.places_left += 1
            return
        kinds = tuple(dict.fromkeys(str(one["kind"]) for one in secret))
        place = Place(self._path, int(shape["start"]), int(shape["end"]), str(shape["sha256"]), kinds)
        self.reading.places.append(place)

    def _summary(self, shape: _Line) -> None:
        reading = self.reading
        reading.skipped.update({str(reason): int(count) for reason, count in shape["skipped"].items()})
        reading.left_out, reading.entries = int(shape["left_out"]), int(shape["entries"])
        reading.complete = bool(shape["complete"])
        self._ended = True

    async def _next_file(self, path: str) -> None:
        passages, self._passages = self._passages, []
        title, self._path = self._path, path
        if not passages:
            return
        while len(self._under_way) >= UNDER_WAY_MAX:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        self._raise()
        self._digests.append("")
        task = asyncio.create_task(self._bring(len(self._digests) - 1, title, passages))
        self._under_way.add(task)
        task.add_done_callback(self._brought)

    async def _bring(self, place: int, title: str, passages: list[Passage]) -> None:
        self._digests[place] = await self._rt.context.ingest(self._scout, title, passages)

    def _brought(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and self._failed is None:
            self._failed = task.exception()

    def _raise(self) -> None:
        if self._failed is not None:
            raise self._failed


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InputError("labels are a list of texts")
    return tuple(value)
