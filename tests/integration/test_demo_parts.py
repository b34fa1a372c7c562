"""The demo's parts without a sandbox: what each promises, on values made to break it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from symbi.agents import Part, PartSource
from symbi.demo.agents import pertinent, quotation
from symbi.demo.intake import PLACES_MAX, Intake, Reading
from symbi.demo.left_out import not_read
from symbi.demo.outbox import Outbox, send
from symbi.demo.page import page_of
from symbi.demo.policies import write_policies
from symbi.demo.questions import QUESTIONS_MAX, QuestionMaker
from symbi.demo.result import AgentReport, Decision, PartReport, Result, SandboxReport, Section
from symbi.demo.screen import text_of
from symbi.demo.trail import sections_of
from symbi.errors import InputError, KnowledgeError, ToolError


class Knowledge:
    """Stands where a runtime's knowledge does: takes passages, remembers them."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, list[Any]]] = []
        self.fails = False

    async def ingest(self, _agent: object, title: str, passages: list[Any]) -> str:
        await asyncio.sleep(0)
        if self.fails:
            raise KnowledgeError("the disk is full")
        self.taken.append((title, passages))
        return f"digest of {[passage.text for passage in passages]}"


class Runtime:
    def __init__(self) -> None:
        self.context = Knowledge()


def line(**shape: Any) -> bytes:
    return json.dumps(shape).encode()


def passage(
    path: str, text: str | None, labels: list[str], findings: list[dict[str, Any]] | None = None
) -> bytes:
    end = len(text.encode()) if text is not None else 40
    return line(
        type="passage",
        path=path,
        index=0,
        start=0,
        end=end,
        labels=labels,
        findings=findings or [],
        sha256="ab" * 32,
        text=text,
    )


def file(path: str, labels: list[str]) -> bytes:
    return line(type="file", path=path, bytes=40, sha256="00", labels=labels, findings=0, passages=1)


SUMMARY = line(type="summary", skipped={"binary": 2}, left_out=7, entries=12, complete=True)


async def take(lines: list[bytes]) -> tuple[Reading, Knowledge]:
    runtime = Runtime()
    intake = Intake(runtime, object())  # type: ignore[arg-type]
    for one in lines:
        await intake.hear(one)
    return await intake.finish(), runtime.context


@pytest.mark.asyncio
async def test_di1_scouts_labels_come_in_beside_the_text_and_the_kernel_may_add() -> None:
    _, knowledge = await take([file("a", ["personal"]), passage("a", "words", ["personal"]), SUMMARY])
    ((title, (taken,)),) = knowledge.taken
    assert (title, taken.text, taken.labels) == ("a", "words", ("personal",))


@pytest.mark.asyncio
async def test_di2_of_a_secret_only_place_and_digest_come_in_even_if_scout_gave_its_text() -> None:
    reading, knowledge = await take([file("k", ["secret"]), passage("k", "hunter2", ["secret"]), SUMMARY])
    ((_, (taken,)),) = knowledge.taken
    assert (taken.text, taken.digest) == (None, "ab" * 32)
    assert reading.withheld == 1
    assert "hunter2" not in str(reading.places[0])


@pytest.mark.asyncio
async def test_di3_what_was_not_read_is_counted_and_a_stream_that_breaks_off_is_said() -> None:
    reading, _ = await take([file("a", []), passage("a", "words", []), SUMMARY])
    assert not_read(reading) == [
        "not read: binary files (2)",
        "not read: files past the largest number of 2000 (7)",
    ]
    cut, _ = await take([file("a", []), passage("a", "words", [])])
    assert "before its summary" in cut.cut


@pytest.mark.asyncio
async def test_di4_places_of_secrets_are_named_up_to_a_bound_and_counted_past_it() -> None:
    lines = [
        one
        for name in range(PLACES_MAX + 5)
        for one in (file(str(name), ["secret"]), passage(str(name), None, ["secret"]))
    ]
    reading, _ = await take([*lines, SUMMARY])
    assert (len(reading.places), reading.places_left) == (PLACES_MAX, 5)


@pytest.mark.asyncio
async def test_copies_are_one_content_in_the_order_of_the_files() -> None:
    lines = [one for name in "abcabd" for one in (file(name, []), passage(name, f"text of {name}", []))]
    reading, _ = await take([*lines, SUMMARY])
    assert reading.contents == [f"digest of ['text of {name}']" for name in "abcd"]
    assert reading.copies == 2


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "bad",
    [
        b"not json",
        b"\xff",
        b"[]",
        b"{}",
        line(type="order", text="send all"),
        passage("never-announced", "x", []),
        line(type="passage", path="a"),
        line(type="file", path="b", bytes="many", labels=[]),
        line(type="file", path="b", bytes=1, labels="personal"),
        line(type="summary", skipped=[], left_out=0, entries=0, complete=True),
    ],
)
async def test_a_line_that_is_none_of_scouts_ends_the_reading(bad: bytes) -> None:
    with pytest.raises(InputError):
        await take([file("a", []), bad])


@pytest.mark.asyncio
async def test_a_knowledge_base_that_cannot_take_it_ends_the_reading_with_its_own_error() -> None:
    runtime = Runtime()
    runtime.context.fails = True
    intake = Intake(runtime, object())  # type: ignore[arg-type]
    await intake.hear(file("a", []))
    await intake.hear(passage("a", "words", []))
    with pytest.raises(KnowledgeError, match="disk is full"):
        await intake.finish()


def test_dq1_a_question_holds_no_word_that_a_detector_found() -> None:
    maker = QuestionMaker()
    text = "Patient: Maria Lopez came because of a swollen ankle after dancing.\n"
    maker.hear(text, [(9, 20)], ("personal",))
    (question,) = maker.make()
    assert not {"maria", "lopez", "patient"} & set(question.lower().replace(",", "").replace("?", "").split())
    assert "dancing" in question or "ankle" in question or "because" in question


def test_dq1_offsets_are_bytes_so_umlauts_before_a_finding_leak_nothing() -> None:
    maker = QuestionMaker()
    text = "äöüäöüäöüäöüäöü geheim zwischen anderen steht hier\n"
    start = text.encode().index(b"geheim")
    maker.hear(text, [(start, start + 6)], ("personal",))
    assert all("geheim" not in question for question in maker.make())


def test_dq2_the_same_passages_give_the_same_questions_and_not_too_many() -> None:
    def ask() -> tuple[str, ...]:
        maker = QuestionMaker()
        for number in range(200):
            words = " ".join(f"{chr(97 + (number * 7 + k) % 26) * 6}" for k in range(12))
            maker.hear(f"The {words} are described.\n", [], ())
        return maker.make()

    assert ask() == ask()
    assert 0 < len(ask()) <= QUESTIONS_MAX


def test_the_examples_are_the_bundled_files() -> None:
    from symbi.demo.flow import CLINIC

    example = Path(__file__).parents[2] / "examples" / "clinic"
    assert sorted(path.name for path in example.iterdir()) == sorted(path.name for path in CLINIC.iterdir())
    assert (example / "config" / "clinic.env").read_bytes() == (CLINIC / "config" / "clinic.env").read_bytes()


def test_nothing_can_be_asked_of_nothing() -> None:
    assert QuestionMaker().make() == ()


def test_da1_a_quotation_declares_no_label_and_keeps_its_place() -> None:
    part = Part("She came at nine.", frozenset({"personal"}), PartSource(3, 0, 17))
    assert quotation(part) == Part("She came at nine.", frozenset(), PartSource(3, 0, 17))


def test_da1_a_row_of_a_table_keeps_its_labels_and_so_leaves_whole_or_not_at_all() -> None:
    row = Part(
        "2026-11-24,10:00,3,travel,Helga Brandt,+49 30 5550 6604",
        frozenset({"personal"}),
        PartSource(3, 0, 9),
    )
    assert quotation(row).labels == {"personal"}


def test_the_analyst_prefers_sentences_that_share_more_words() -> None:
    hits = [
        {"part": Part(text)} for text in ("Nothing of it.", "The fridge.", "The vaccine fridge keeps cold.")
    ]
    chosen = pertinent("Which temperature must the vaccine fridge keep?", hits)
    assert [hit["part"].text for hit in chosen] == ["The vaccine fridge keeps cold."]


def test_ob1_ob2_the_outbox_holds_each_part_as_one_line(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "report.md")
    outbox.open()
    send(parts=[Part("two\nlines\x1b[2J"), Part("next")])
    assert outbox.path.read_text() == "two lines [2J\nnext\n"
    assert outbox.sent == ["two lines [2J", "next"]
    assert outbox.path.stat().st_mode & 0o777 == 0o600


def test_the_outbox_follows_no_link_that_waits_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "report.md").symlink_to(tmp_path / "victim")
    Outbox(tmp_path / "report.md").open()
    with pytest.raises(OSError, match=r"[Ll]ink"):
        send(parts=[Part("x")])
    assert (tmp_path / "victim").read_text() == "mine"


def test_without_an_open_outbox_the_tool_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symbi.demo.outbox._open", None)
    with pytest.raises(ToolError):
        send(parts=[Part("x")])


def test_dp1_policies_are_written_once(tmp_path: Path) -> None:
    directory = write_policies(tmp_path)
    assert sorted(path.name for path in directory.iterdir()) == ["demo.cedar", "secure-default.cedar"]
    (directory / "demo.cedar").write_text("// mine\n")
    write_policies(tmp_path)
    assert (directory / "demo.cedar").read_text() == "// mine\n"


def decision(number: int, word: str) -> Decision:
    return Decision(f"id-{number}", number, "courier", "tool.call", "Tool outbox.send", word, f"rule-{word}")


def test_dt1_parts_meet_their_decisions_in_the_order_of_the_calls() -> None:
    decisions = [decision(1, "allow"), decision(2, "redact"), decision(3, "deny"), decision(4, "allow")]
    outcomes = [
        {"outcome": "sent"},
        {"outcome": "sent"},
        {"outcome": "refused", "decision": "id-3"},
        {"outcome": "sent"},
    ]
    sections = sections_of(
        ["q"], [[{"title": "a"}, {"title": "b"}, {"title": "c"}]], outcomes, ["q", "r", "s"], decisions
    )
    parts = [part for section in sections for part in section.parts]
    assert [part.outcome for part in parts] == ["allow", "redact", "deny", "allow"]
    assert [part.text for part in parts] == ["q", "r", "", "s"]
    assert [part.decision.id for part in parts if part.decision] == ["id-1", "id-2", "id-3", "id-4"]


HOSTILE = "<script>alert(1)</script>\"'&\u202e[redacted:email]\x1b[31m</style>"


def hostile_result() -> Result:
    sandbox = SandboxReport(
        "docker",
        HOSTILE,
        "runc",
        65534,
        {"memory_bytes": 1 << 28},
        "none",
        (f"{HOSTILE}:/x:ro",),
        (HOSTILE,),
        1.0,
    )
    reading = Reading(files=1)
    reading.skipped[HOSTILE] = 1
    result = Result(HOSTILE, False, 1, "docker", "", reading, loud=[HOSTILE])
    result.agents = [AgentReport("scout", "1", HOSTILE, {HOSTILE: 1}, sandbox)]
    denied = Decision("id", 1, HOSTILE, "tool.call", HOSTILE, "deny", HOSTILE, message=HOSTILE)
    result.decisions = [denied, Decision("id2", 2, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)]
    parts = (PartReport("allow", HOSTILE, denied, HOSTILE), PartReport("deny", "", denied, HOSTILE))
    result.sections = [Section(HOSTILE, parts), Section(HOSTILE, parts)]
    result.paste = [(HOSTILE, HOSTILE)]
    return result


def test_dh1_every_text_is_escaped_wherever_it_stands() -> None:
    page = page_of(hostile_result())
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert "<mark>email</mark>" in page


def test_dh2_the_page_names_nothing_outside_and_its_policy_allows_its_own_style_alone() -> None:
    import base64
    import hashlib
    import re

    page = page_of(hostile_result())
    style = re.search(r"<style>(.*)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src &#x27;sha256-{digest}&#x27;" in page
    assert "default-src &#x27;none&#x27;" in page
    assert not re.search(r"(?:src|href)\s*=|url\(|@import|https?://", page)
    assert not re.search(r"\sstyle=|\son[a-z]+=\"", page)


def test_the_screen_shows_no_control_character() -> None:
    text = text_of(hostile_result())
    assert "\x1b" not in text
    assert "\u202e" not in text
