"""Threat: a person who was forgotten can still be read somewhere.

A word that stands nowhere else is planted by every way into a runtime, under a person's name. Then every byte of the data
directory is searched for it: before the erasure in the clear, after it in any form, with all keys that are left.
"""

from __future__ import annotations

import asyncio
import base64
import fnmatch
import hashlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import symbi
import symbi.audit
from symbi import _core
from symbi.context import Passage
from symbi.errors import ErasedError, InputError, KnowledgeError, PolicyDenied, ToolError
from symbi.policy.history import what_if
from symbi.tools import ToolDefinition, concerns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WORD = "zyxquillfeather"  # stands nowhere else; lower case, so that the index keeps it as it is
SUBJECT = "patient jane roe-4711"
OPERATOR = f"operator:{os.getuid()}"
POLICY = """
permit (principal, action in [Action::"agent.create", Action::"agent.run", Action::"message.send", Action::"data.read",
  Action::"data.write", Action::"data.search"], resource);
permit (principal, action == Action::"tool.call", resource) unless { resource == Tool::"registry.ask" };
@obligation("approval") permit (principal, action == Action::"tool.call", resource == Tool::"registry.ask");
permit (principal is Operator, action == Action::"data.erase", resource);
"""


async def _look_up(name: str) -> str:
    concerns(SUBJECT)
    return f"{WORD} of {name}"


async def _fail(name: str) -> str:
    concerns(SUBJECT)
    raise ValueError(f"no {WORD} for {name}")


TOOLS = [
    ToolDefinition("registry.look_up", _look_up, "read", "low", ("name",), takes_parts=False),
    ToolDefinition("registry.fail", _fail, "read", "low", (), takes_parts=False),
    ToolDefinition("registry.ask", _look_up, "external", "high", (), takes_parts=False),
]


async def _quiet(note: str = "") -> str:
    return note


async def _breaks(note: str) -> None:
    raise ValueError(note)


def _config(policy: Path) -> symbi.Config:
    return symbi.Config.load(None, overrides={"audit.snapshot_records": 100, "policy.paths": [str(policy)]})


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "p.cedar"
    path.write_text(POLICY)
    return path


async def _open(tmp_path: Path, policy: Path) -> symbi.Runtime:
    return symbi.Runtime.open(_config(policy), data=tmp_path / "d")


@pytest_asyncio.fixture
async def rt(tmp_path: Path, policy: Path) -> AsyncIterator[symbi.Runtime]:
    async with await _open(tmp_path, policy) as opened:
        for tool in TOOLS:
            opened.tools.register(tool)
        yield opened


async def _agent(rt: symbi.Runtime, name: str, function: Any = _quiet) -> symbi.AgentHandle:
    return await rt.schedule_agent(symbi.AgentConfig(name=name, function=function, isolation="in_process"))


def _forms(text: str) -> dict[str, bytes]:
    """What a text can be found as."""
    plain = text.encode()
    return {
        "plain": plain,
        "utf-16": text.encode("utf-16-le"),
        "hex": plain.hex().encode(),
        "sha-256": hashlib.sha256(plain).digest(),
        "sha-256 hex": hashlib.sha256(plain).hexdigest().encode(),
        # Without the ends, which depend on what stands around it; at each of the three places in a group.
        **{f"base64 {shift}": base64.b64encode(b" " * shift + plain)[4:-4] for shift in range(3)},
    }


def _traces(data: Path, text: str) -> list[str]:
    """Files that hold this text, in any form; what is compressed is looked into."""
    found = []
    for path in (path for path in data.rglob("*") if path.is_file()):
        contents = [path.read_bytes()]
        if path.suffix == ".zst":
            contents.append(subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout)
        for content in contents:
            low = content.lower()
            found += [
                f"{path.relative_to(data)}: {form}"
                for form, bytes_ in _forms(text).items()
                if (bytes_ in content) or (form == "plain" and bytes_.lower() in low)
            ]
    return found


async def _plant(rt: symbi.Runtime) -> None:
    """By every way in."""
    writer, reader = await _agent(rt, "writer"), await _agent(rt, "reader")
    content = await rt.context.ingest(
        writer, f"Chart of {WORD}", [Passage(f"the {WORD} sleeps badly", 0, 30)], subject=SUBJECT
    )
    await rt.context.store_document(writer, content, ["reader", "seer", "late"])
    part = symbi.Part(f"a note on {WORD}", frozenset({f"subject:{SUBJECT}"}))
    await rt.bus.send(writer, reader, [part])
    await rt.bus.send(writer, reader, [part], durable=True)
    await rt.bus.send(writer, reader, [part], guarantee="at_least_once")
    await rt.run(await _agent(rt, "asked"), {"note": f"{WORD} by input"}, subject=SUBJECT)
    broken = await _agent(rt, "broken", _breaks)
    with pytest.raises(symbi.SymbiError):
        await rt.run(broken, {"note": f"{WORD} in an error"}, subject=SUBJECT)
    clerk = await _agent(rt, "clerk")
    await rt.tools.call(clerk, "registry.look_up", {"name": "by id"})
    await rt.tools.call(clerk, "registry.look_up", {"name": WORD})
    with pytest.raises(ToolError):
        await rt.tools.call(clerk, "registry.fail", {"name": WORD})
    with pytest.raises(PolicyDenied, match="a person must approve"):
        await rt.tools.call(clerk, "registry.ask", {"name": WORD}, approval_timeout_s=0.01)
    for number in range(80):  # past the next snapshot of the state
        await rt.dispatcher.call(clerk.id, "log.note", {"text": f"{WORD} noted {number}"})
    await rt.dispatcher.call(
        clerk.id, "context.write", {"title": f"memory of {WORD}", "text": f"I remember {WORD}", "readers": []}
    )
    await rt.context.search_knowledge(reader, WORD)


def test_the_search_finds_a_word_in_every_form(tmp_path: Path) -> None:
    planted = [
        f"a {WORD} b".encode(),
        f"a {WORD.upper()} b".encode(),
        f"a {WORD} b".encode("utf-16-le"),
        f"a {WORD} b".encode().hex().encode(),
        *(base64.b64encode(f"{'a' * before}{WORD} and more".encode()) for before in range(3)),
        hashlib.sha256(WORD.encode()).digest(),
    ]
    for number, content in enumerate(planted):
        place = tmp_path / str(number)
        place.mkdir()
        (place / "f").write_bytes(content)
        assert _traces(place, WORD), content
    assert _traces(tmp_path, "anotherword") == []


@pytest.mark.asyncio
async def test_er1_nothing_of_a_person_is_found_in_any_file_before_or_after_the_erasure(
    rt: symbi.Runtime, tmp_path: Path, policy: Path
) -> None:
    data = tmp_path / "d"
    await _plant(rt)
    seer = await _agent(rt, "seer")
    hits = await rt.context.search_knowledge(seer, f"where is the {WORD}")
    assert [hit.title for hit in hits] == [f"Chart of {WORD}"], "sealed, and found by its words"
    for text in (WORD, SUBJECT):
        assert _traces(data, text) == [], "ER1, ER8: nothing stands there in the clear"
    trail = symbi.AuditLog.open(rt.opened["trail"])
    pseudonym = await rt.persons.pseudonym(SUBJECT)
    assert pseudonym is not None
    concerned = trail.query(subject=pseudonym)
    assert {event.event_type for event in concerned} >= {"operation", "operation.intent", "operation.outcome"}
    sealed = next(event.details["sealed"] for event in concerned if "sealed" in event.details)
    assert WORD.encode() in rt.kernel.unseal(sealed) or b"by id" in rt.kernel.unseal(sealed)
    checkpoint = rt.kernel.checkpoint()
    proof = trail.prove(concerned[0].seq)
    key_file = data / "keys" / "subjects" / pseudonym
    key = key_file.read_text()

    (tried,) = await rt.persons.erase(SUBJECT, dry_run=True)
    assert tried.places["knowledge"] == 2
    assert key_file.exists(), "a trial changes nothing"
    (erased,) = await rt.persons.erase(SUBJECT, by=OPERATOR)

    assert erased.subject == pseudonym
    assert (erased.places["knowledge"], erased.places["approvals"]) == (2, 1)
    assert erased.places["deliveries"] >= 1
    assert not key_file.exists()
    assert [name for name in ("clerk", "asked", "reader") if name in {name for _, name in erased.agents}]
    with pytest.raises(ErasedError):
        rt.kernel.unseal(sealed)
    for text in (WORD, SUBJECT, key.strip()):
        assert _traces(data, text) == []
    assert await rt.context.search_knowledge(await _agent(rt, "late"), WORD) == []
    trail = symbi.AuditLog.open(rt.opened["trail"])
    trail.verify(checkpoint=checkpoint)
    proof.check(trail.fingerprint)
    page = Path(symbi.audit.__file__).with_name("verify_trail.py")
    stranger = [sys.executable, page, rt.opened["trail"]]
    await asyncio.to_thread(subprocess.run, stranger, check=True, capture_output=True, timeout=60)
    assert trail.query(event_type="subject.erased")[0].subjects == (pseudonym,)
    await rt.close()
    assert _traces(data, WORD) == []
    assert what_if(data, [policy]).undecidable["erased"] >= 1
    async with await _open(tmp_path, policy) as again:
        assert again.kernel.approvals() == [], "what waited waits no more"
        assert again.kernel.letters_open() == 0 if hasattr(again.kernel, "letters_open") else True
        reader = await _agent(again, "reader")
        assert await again.bus.receive_many(reader, limit=9) == []
        with pytest.raises(InputError, match="nothing is known"):
            await again.persons.erase(SUBJECT, by=OPERATOR)
    symbi.AuditLog.open(data / "trail").verify()


@pytest.mark.asyncio
async def test_er6_who_has_read_a_person_that_was_erased_may_do_nothing_with_it(rt: symbi.Runtime) -> None:
    clerk = await _agent(rt, "clerk")
    await rt.tools.call(clerk, "registry.look_up", {"name": "x"})
    await rt.persons.erase(SUBJECT, by=OPERATOR)
    with pytest.raises(PolicyDenied, match="erased"):
        await rt.tools.call(clerk, "registry.look_up", {"name": "x"})
    assert await rt.stop_agent(clerk, force=True)


@pytest.mark.asyncio
async def test_er7_a_legal_hold_refuses_an_erasure_and_survives_an_opening(
    tmp_path: Path, policy: Path
) -> None:
    async with await _open(tmp_path, policy) as rt:
        await rt.persons.hold(SUBJECT, f"court order about {WORD}", by=OPERATOR)
    async with await _open(tmp_path, policy) as rt:
        (hold,) = rt.persons.holds()
        assert (hold.name, hold.reason) == (SUBJECT, f"court order about {WORD}")
        with pytest.raises(PolicyDenied, match="legal hold"):
            await rt.persons.erase(SUBJECT, by=OPERATOR)
        assert await rt.persons.pseudonym(SUBJECT) is not None
        await rt.persons.release(SUBJECT, by=OPERATOR)
        await rt.persons.erase(SUBJECT, by=OPERATOR)
        assert _traces(tmp_path / "d", WORD) == []


@pytest.mark.asyncio
async def test_an_erasure_is_under_policy(rt: symbi.Runtime) -> None:
    await rt.run(await _agent(rt, "asked"), {"note": "x"}, subject=SUBJECT)
    with pytest.raises(PolicyDenied):
        await rt.persons.erase(SUBJECT, by="host")
    assert await rt.persons.pseudonym(SUBJECT) is not None


@pytest.mark.asyncio
async def test_an_erasure_waits_for_a_person_where_policy_asks_for_one(tmp_path: Path, policy: Path) -> None:
    rule = 'permit (principal is Operator, action == Action::"data.erase", resource);'
    asking = POLICY.replace(rule, f'@obligation("approval") {rule}')
    await asyncio.to_thread(policy.write_text, asking)
    async with await _open(tmp_path, policy) as rt:
        await rt.run(await _agent(rt, "asked"), {"note": "x"}, subject=SUBJECT)
        with pytest.raises(PolicyDenied, match="a person must approve") as denied:
            await rt.persons.erase(SUBJECT, by=OPERATOR)
        (waits,) = rt.kernel.approvals()
        assert (waits["operation"], waits["action"]) == (denied.value.approval, "data.erase")
        assert await rt.persons.pseudonym(SUBJECT) is not None


@pytest.mark.asyncio
async def test_er4_a_key_is_destroyed_in_its_backups_too(tmp_path: Path, policy: Path) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    config = _config(policy).with_overrides({"audit.subject_key_backups": [str(backup)]})
    async with symbi.Runtime.open(config, data=tmp_path / "d") as rt:
        await rt.run(await _agent(rt, "asked"), {"note": "x"}, subject=SUBJECT)
        pseudonym = str(await rt.persons.pseudonym(SUBJECT))
        assert [path.name for path in backup.iterdir()] == [pseudonym]
        await rt.persons.erase(SUBJECT, by=OPERATOR)
        assert list(backup.iterdir()) == []


@pytest.mark.asyncio
async def test_er2_forgetting_one_of_two_takes_what_belonged_to_both_and_leaves_the_other(
    rt: symbi.Runtime,
) -> None:
    writer = await _agent(rt, "writer")
    both = Passage("both of them", 0, 12, labels=("subject:ann", "subject:bob"))
    content = await rt.context.ingest(
        writer,
        "t",
        [
            Passage("hers alone", 0, 9, labels=("subject:ann",)),
            both,
            Passage("his alone", 20, 29, labels=("subject:bob",)),
        ],
    )
    await rt.context.store_document(writer, content, ["reader", "seer", "late"])
    await rt.persons.erase("ann", by=OPERATOR)
    hits = await rt.context.search_knowledge(await _agent(rt, "reader"), "alone both")
    assert [hit.text for hit in hits] == ["his alone"]


_KILLED = """
import asyncio, os, sys, symbi
from pathlib import Path
from symbi.context import Passage
async def quiet(): ...
async def main():
    config = symbi.Config.load(None, overrides={"policy.paths": [sys.argv[2]]})
    async with symbi.Runtime.open(config, data=sys.argv[1]) as rt:
        a = await rt.schedule_agent(symbi.AgentConfig(name="a", function=quiet, isolation="in_process"))
        content = await rt.context.ingest(a, "t", [Passage("the zyxquillfeather", 0, 19)], subject="jane")
        await rt.context.store_document(a, content, ["*"])
        await rt.context.search_knowledge(a, "x")
        print(await rt.persons.pseudonym("jane"), flush=True)
        keys = Path(sys.argv[1], "keys", "subjects")
        (keys / "names").rename(keys / "away")
        (keys / "names").write_text("")  # the destruction fails there, after its record
        try:
            await rt.persons.erase("jane", by=f"operator:{os.getuid()}")
        except symbi.SymbiError:
            pass
        os.kill(os.getpid(), 9)
asyncio.run(main())
"""


@pytest.mark.asyncio
async def test_er5_an_erasure_that_was_cut_short_is_finished_by_the_next_opening(
    tmp_path: Path, policy: Path
) -> None:
    data = tmp_path / "d"
    command = [sys.executable, "-c", _KILLED, str(data), str(policy)]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pseudonym = done.stdout.split()[0]
    names = data / "keys" / "subjects" / "names"
    names.unlink()
    (data / "keys" / "subjects" / "away").rename(names)
    async with await _open(tmp_path, policy) as rt:
        assert await rt.persons.pseudonym("jane") is None
        assert not list(data.rglob(pseudonym))
        assert list(names.iterdir()) == []
        (told,) = symbi.AuditLog.open(rt.opened["trail"]).query(event_type="subject.erased")
        assert told.details["person"] == pseudonym
    state = sqlite3.connect(data / "state.db")
    assert state.execute("SELECT count(*) FROM chunk").fetchone() == (0,)


@pytest.mark.asyncio
async def test_er5_a_key_that_comes_back_from_a_copy_is_destroyed_again(tmp_path: Path, policy: Path) -> None:
    async with await _open(tmp_path, policy) as rt:
        await rt.run(await _agent(rt, "asked"), {"note": "x"}, subject=SUBJECT)
        path = tmp_path / "d" / "keys" / "subjects" / str(await rt.persons.pseudonym(SUBJECT))
        copy = path.read_bytes()
        await rt.persons.erase(SUBJECT, by=OPERATOR)
    path.write_bytes(copy)
    async with await _open(tmp_path, policy) as rt:
        assert not path.exists()
        causes = [
            event.details["cause"]
            for event in symbi.AuditLog.open(rt.opened["trail"]).query(event_type="subject.erased")
        ]
        assert causes == ["asked", "key_came_back"]


@pytest.mark.asyncio
async def test_every_file_of_a_data_directory_is_a_place_that_somebody_has_thought_of(
    rt: symbi.Runtime, tmp_path: Path
) -> None:
    await _plant(rt)
    patterns = [path for _, path, _ in _core.places() if path]
    data = tmp_path / "d"

    def known(name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern.replace("**", "*")) for pattern in patterns)

    files = [str(path.relative_to(data)) for path in data.rglob("*") if not path.is_dir()]
    assert [name for name in files if not known(name)] == []


@pytest.mark.asyncio
async def test_a_name_that_cannot_be_is_refused_and_no_label_names_an_unknown_person(
    rt: symbi.Runtime,
) -> None:
    agent = await _agent(rt, "asked")
    for wrong in ("", " ann", "a\nb", "x" * 257):
        with pytest.raises(InputError):
            await rt.run(agent, {"note": "x"}, subject=wrong)
    with pytest.raises(InputError, match="no person that is known"):
        await rt.run(agent, {"note": "x"}, labels=["subject." + "0" * 32])


READER = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("BEGIN")
print(*other.execute("SELECT count(*) FROM chunk").fetchone(), flush=True)
sys.stdin.read()
"""


@pytest.mark.asyncio
async def test_er5_what_keeps_the_knowledge_from_forgetting_keeps_nothing_else(rt: symbi.Runtime) -> None:
    writer, sender, reader = [await _agent(rt, name) for name in ("writer", "sender", "reader")]
    await rt.context.ingest(writer, "t", [Passage(f"the {WORD} sleeps", 0, 20)], subject=SUBJECT)
    part = symbi.Part("of her", labels=frozenset({f"subject:{SUBJECT}"}))
    await rt.bus.send(sender, reader, [part], guarantee="at_least_once")
    (message,) = await rt.bus.receive_many(reader)
    # A process of its own: what one process locks is open to all of its libraries.
    pipe = asyncio.subprocess.PIPE
    file = str(Path(rt.opened["trail"]).parent / "state.db")
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", READER, file, stdin=pipe, stdout=pipe)
    assert other.stdout is not None
    assert await other.stdout.readline() == b"1\n"
    with pytest.raises(KnowledgeError, match="erase again") as stopped:
        await rt.persons.erase(SUBJECT, by=OPERATOR)
    (pseudonym,) = re.findall("[0-9a-f]{32}", str(stopped.value))
    with pytest.raises(InputError):
        await rt.bus.ack(reader, message)  # it is not handed out again: it is gone
    await other.communicate(b"")
    for unknown in (SUBJECT, "somebody else", pseudonym[::-1]):
        with pytest.raises(InputError, match="nothing is known"):
            await rt.persons.erase(unknown, by=OPERATOR)
    (erased,) = await rt.persons.erase(pseudonym, by=OPERATOR)
    assert (erased.subject, erased.places["deliveries"], erased.places["knowledge"]) == (pseudonym, 1, 1)
