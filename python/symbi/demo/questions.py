"""What the analyst is asked.

For the clinic the questions are written down. For other files they are made of the files' own words: a sentence
that stands out is asked for by its rarest words, so that there is something to find in any directory of text.
Not here: the search that answers them.

Invariants
- DQ1 a question holds no word in which a detector found something: it stands in a clean part of the report.
- DQ2 the same passages give the same questions.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

__all__ = ["CLINIC_QUESTIONS", "QuestionMaker"]

CLINIC_QUESTIONS = (
    "When is the clinic open on Saturday?",
    "Which temperature must the vaccine fridge keep?",
    "What is done after a needle-stick injury?",
    "Which patient reacted to the influenza vaccine with a rash?",
    "Who asked for the newsletter on vaccine dates?",
)

QUESTIONS_MAX = 6
"""Of any class together. A minute's reading."""

WORDS_A_QUESTION = 3
PASSAGES_MAX = 4_000
"""Passages looked at; a larger collection has shown what it is about by then."""

SENTENCE_CHARS = (40, 240)
"""Length of a sentence worth quoting: longer than a heading, shorter than a minified file."""

# Letters only: no digits, no joined names, nothing a detector would take for a key, a number or an address.
_WORD = re.compile(r"[^\W\d_]{4,24}")
_CUT = "\0"  # where a finding was; no word
_SENTENCE = re.compile(r"[^.!?\n]+")


@dataclass
class QuestionMaker:
    """Listens to passages as they come, and makes questions of them."""

    _frequency: Counter[str] = field(default_factory=Counter)
    _sentences: dict[str, list[list[str]]] = field(default_factory=lambda: {"clean": [], "personal": []})
    _passages: int = 0

    def hear(self, text: str, findings: list[tuple[int, int]], labels: tuple[str, ...]) -> None:
        """Take one passage.

        Args:
            text: What it says.
            findings: Where the detectors found something, bytes from the start of `text` in UTF-8.
            labels: Its labels.
        """
        if self._passages >= PASSAGES_MAX:
            return
        self._passages += 1
        clean = _without(text, findings)  # DQ1
        kind = "personal" if "personal" in labels else "clean"
        seen: set[str] = set()
        for found in _SENTENCE.finditer(clean):
            sentence = found[0].strip()
            words = _WORD.findall(sentence)
            if kind == "personal":  # a capital may begin a name that no detector knows (DQ1)
                words = [word for word in words if word.islower()]
            words = list(dict.fromkeys(word.lower() for word in words))
            seen.update(words)
            long = SENTENCE_CHARS[0] <= len(sentence) <= SENTENCE_CHARS[1] and len(words) >= WORDS_A_QUESTION
            if (long and kind == "clean") or (words and _CUT in sentence):
                self._sentences[kind].append(words)
        self._frequency.update(seen)

    def make(self) -> tuple[str, ...]:
        """The questions, at most `QUESTIONS_MAX`; none where nothing could be asked."""
        asked: list[str] = []
        used: set[str] = set()
        for kind, most, least in (("clean", QUESTIONS_MAX - 2, 2), ("personal", QUESTIONS_MAX, 1)):
            ranked = sorted(self._sentences[kind], key=lambda words: (-self._weight(words), words))
            for words in ranked:
                if len(asked) >= most:
                    break
                fresh = [word for word in words if word not in used]
                if len(fresh) < least:
                    continue
                chosen = sorted(fresh, key=lambda word: (self._rarity(word), word))[:WORDS_A_QUESTION]
                used.update(chosen)
                asked.append("What about " + ", ".join(word for word in words if word in chosen) + "?")
        return tuple(asked)

    def _rarity(self, word: str) -> int:
        """Low for a good word: one that a few passages share. What only one has may be a slip, or a name."""
        count = self._frequency[word]
        return 10_000 if count < 2 else count

    def _weight(self, words: list[str]) -> float:
        rare = sorted(self._rarity(word) for word in words)[:WORDS_A_QUESTION]
        return sum(1 / count for count in rare)


def _without(text: str, findings: list[tuple[int, int]]) -> str:
    data = text.encode()
    pieces, done = [], 0
    for start, end in sorted(findings):
        pieces.append(data[done:start])
        done = max(done, end)
    pieces.append(data[done:])
    return _CUT.encode().join(pieces).decode("utf-8", "replace")
