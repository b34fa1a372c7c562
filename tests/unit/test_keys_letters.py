"""`rt.keys`, dead letters and `symbi keys`, `symbi letters`: what is asked, what is printed, what is refused."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.cli.main import main
from symbi.control import act

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPERATOR = "operator:1000"
IMPATIENT = """
[runtime]
message_attempts = 2
message_backoff_ms = 1
"""


@symbi.agent(name="quiet", isolation="in_process")
async def quiet() -> None: ...


async def _agents(rt: symbi.Runtime, *names: str) -> list[symbi.AgentHandle]:
    config = [symbi.AgentConfig(name=name, function=quiet.function, isolation="in_process") for name in names]
    return [await rt.schedule_agent(one) for one in config]


def _runtime(tmp_path: Path, policy: str | None = None) -> symbi.Runtime:
    settings = tmp_path / "symbi.toml"
    settings.write_text(IMPATIENT)
    if policy is None:
        return symbi.Runtime.open(settings, data=tmp_path / "data")
    rules = tmp_path / "rules.cedar"
    rules.write_text(policy)
    return symbi.Runtime.open(settings, data=tmp_path / "data", policy=rules)


async def _dead(rt: symbi.Runtime, sender: symbi.AgentHandle, reader: symbi.AgentHandle) -> str:
    """A message that was given back as often as the settings allow."""
    identity = await rt.bus.send(sender, reader, b"poison", guarantee="at_least_once")
    for attempt in (1, 2):
        (message,) = await rt.bus.receive_many(reader, timeout_s=20)
        assert message.attempt == attempt
        await rt.bus.nack(reader, message)
    rt.kernel.pass_deliveries()
    return identity


@pytest.mark.asyncio
async def test_ke1_ma1_keys_are_listed_exchanged_and_taken_back_by_operators(tmp_path: Path) -> None:
    async with _runtime(tmp_path) as rt:
        alice, bob = await _agents(rt, "alice", "bob")
        assert (rt.keys.list(), rt.keys.get(alice)) == ([], None)
        (none,) = await act(rt, OPERATOR, {"command": "keys.show", "agent": "alice"})
        assert none["key"] is None
        await rt.bus.send(alice, bob, b"unread")
        first = rt.keys.get(alice)
        assert first is not None
        assert (first.name, first.revoked, len(first.certificate)) == ("alice", False, 184)
        assert first.issuer == rt.keys.runtime
        with pytest.raises(symbi.PolicyDenied):
            await rt.keys.revoke(alice)  # the built-in set: operators alone
        (gone,) = await act(rt, OPERATOR, {"command": "keys.revoke", "agent": alice.id[:8]})
        assert (gone["key"], gone["revoked"]) == (first.key, True)
        with pytest.raises(symbi.BusError):
            await rt.bus.send(alice, bob, b"x")
        assert await rt.bus.receive_many(bob) == []
        (again,) = await act(rt, OPERATOR, {"command": "keys.revoke", "agent": "alice"})
        assert "error" in again
        (fresh,) = await act(rt, OPERATOR, {"command": "keys.rotate", "agent": "alice"})
        assert fresh["key"] != first.key
        await rt.bus.send(alice, bob, b"heard")
        assert [message.payload for message in await rt.bus.receive_many(bob)] == [b"heard"]
        exchange = await act(rt, OPERATOR, {"command": "keys.rotate_runtime"})
        listed = await act(rt, OPERATOR, {"command": "keys.list"})
        assert listed["runtime"] == exchange["after"] == listed["agents"][0]["issuer"]
        with pytest.raises(symbi.InputError):
            await rt.keys.rotate("00000000-0000-4000-8000-000000000000", by=OPERATOR)
    async with _runtime(tmp_path) as rt:
        assert rt.keys.runtime == exchange["after"], "the exchange outlives the runtime"


@pytest.mark.asyncio
async def test_ma2_a_dead_letter_is_read_put_back_and_thrown_away_as_policy_says(tmp_path: Path) -> None:
    rules = """permit(principal, action, resource) unless { principal is Operator };
permit(principal == Operator::"1001", action == Action::"message.read", resource == Agent::"bob");"""
    async with _runtime(tmp_path, rules) as rt:
        alice, bob = await _agents(rt, "alice", "bob")
        identity = await _dead(rt, alice, bob)
        listed = await act(rt, OPERATOR, {"command": "letters.list"})
        (row,) = listed["letters"]
        assert (row["id"], row["recipient_name"], row["reason"], row["attempts"]) == (
            identity,
            "bob",
            "attempts",
            2,
        )
        assert "poison" not in json.dumps(listed)
        show = {"command": "letters.show", "letter": identity[:8]}
        (plain,) = await act(rt, "operator:1001", show)
        assert "payload" not in plain
        (denied,) = await act(rt, OPERATOR, {**show, "payload": True})
        assert (denied["error"]["code"], "payload" in denied) == ("denied", False)
        (read,) = await act(rt, "operator:1001", {**show, "payload": True})
        assert read["payload"] == {"text": "poison"}
        (back,) = await act(rt, OPERATOR, {"command": "letters.retry", "letter": identity})
        assert "error" not in back
        (message,) = await rt.bus.receive_many(bob, timeout_s=20)
        assert (message.id, message.payload, message.attempt) == (identity, b"poison", 1)
        await rt.bus.ack(bob, message)
        other = await _dead(rt, alice, bob)
        (letter,) = rt.bus.dead_letters()
        assert (letter.id, await rt.bus.read_dead_letter(letter)) == (other, b"poison")
        await act(rt, OPERATOR, {"command": "letters.discard", "letter": other})
        assert rt.bus.dead_letters() == []
        with pytest.raises(symbi.InputError, match="letters list"):
            await act(rt, OPERATOR, {"command": "letters.discard", "letter": other})
        with pytest.raises(symbi.InputError, match="first 8 characters"):
            await act(rt, OPERATOR, {"command": "letters.discard", "letter": other[:4]})


@pytest.mark.asyncio
async def test_what_is_published_and_kept_waits_for_the_next_subscription_of_its_kind(tmp_path: Path) -> None:
    async with _runtime(tmp_path) as rt:
        alice, bob = await _agents(rt, "alice", "bob")
        heard = await rt.bus.subscribe(bob, "orders.*")
        identity = await rt.bus.publish(alice, "orders.new", b"first", durable=True)
        assert await rt.bus.publish(alice, "stock.low", b"nobody hears", durable=True)
        (message,) = await heard.receive(timeout_s=20)
        assert (message.id, message.topic, message.attempt) == (identity, "orders.new", 1)
        await heard.ack(message)
        await rt.bus.publish(alice, "orders.new", b"second", durable=True)
    async with _runtime(tmp_path) as rt:
        (bob,) = await _agents(rt, "bob")
        heard = await rt.bus.subscribe(bob, "orders.*")
        (message,) = await heard.receive(timeout_s=20)
        assert (message.payload, message.topic) == (b"second", "orders.new")
        await heard.ack(message)


ROW = {
    "id": "9ba3d5e8-2b59-4be8-af14-58e8819d48e5",
    "mailbox": "6f0c2f51-94a7-4c6e-8b1f-1f3f0c1f7c55",
    "recipient": None,
    "recipient_name": "bob",
    "reason": "attempts",
    "attempts": 5,
    "sender": "x",
    "sender_name": "alice\x1b[2J",
    "created_us": 1,
    "topic": "orders.new",
    "labels": ["phi"],
}
ERROR = {"class": "PolicyDenied", "code": "denied", "message": "no rule permits it"}
KEY = {
    "agent": ROW["mailbox"],
    "name": "bob",
    "key": "ab" * 16,
    "serial": "cd" * 8,
    "not_before_us": 1,
    "not_after_us": 2,
    "issuer": "ef" * 16,
    "revoked": True,
    "certificate": "AAAA",
}


@pytest.fixture
def type_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Types a command to a runtime that gives this answer: exit code, stdout, stderr, and what it was asked."""

    def typing(answer: Any, *arguments: str) -> tuple[int, str, str, dict[str, Any]]:
        asked: dict[str, Any] = {}
        monkeypatch.setattr("symbi.control.ask", lambda _data, request: asked.update(request) or answer)
        try:
            code = main(list(arguments))
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err, asked

    return typing


def test_le1_le2_letters_are_shown_without_their_words_and_what_failed_is_a_finding(type_: Any) -> None:
    code, out, err, asked = type_({"letters": [ROW], "let_go": 3}, "letters", "list")
    assert (code, asked) == (0, {"command": "letters.list"})
    assert "orders.new" in out
    assert "\x1b" not in out
    assert "3 older ones were let go" in err
    code, out, _, asked = type_(
        [{**ROW, "payload": {"text": "hi\x1b[2J"}}], "letters", "show", "9ba3d5e8", "--payload"
    )
    assert (code, asked["payload"], "says" in out, "\x1b" in out) == (0, True, True, False)
    code, out, err, asked = type_([{**ROW, "error": ERROR}], "letters", "show", "9ba3d5e8")
    assert (code, asked["payload"], "denied: no rule permits it; a policy must permit" in err) == (
        1,
        False,
        True,
    )
    for verb, command in (("retry", "letters.retry"), ("discard", "letters.discard")):
        code, out, err, asked = type_([ROW, {**ROW, "error": ERROR}], "letters", verb, "9ba3d5e8")
        assert (code, asked["command"], out.count("\n"), err.count("denied")) == (1, command, 1, 1)
    assert json.loads(type_([ROW], "letters", "retry", "9ba3d5e8", "--json")[1]) == [ROW]


def test_ck1_keys_are_printed_and_one_that_cannot_be_changed_is_a_finding(type_: Any) -> None:
    code, out, err, _ = type_({"runtime": "ef" * 16, "agents": [KEY]}, "keys", "list")
    assert (code, "revoked" in out, "vouches with" in err) == (0, True, True)
    code, out, _, asked = type_([KEY], "keys", "show", "bob")
    assert (code, asked, KEY["serial"] in out) == (0, {"command": "keys.show", "agent": "bob"}, True)
    assert "none yet" in type_([{"agent": "x", "name": "bob", "key": None}], "keys", "show", "bob")[1]
    code, out, err, asked = type_([KEY, {**KEY, "error": ERROR}], "keys", "revoke", "bob")
    assert (code, asked["command"], "is revoked" in out, "denied" in err) == (1, "keys.revoke", True, True)
    exchange = {"before": "a", "after": "b", "renewed": 2, "seq": 9}
    code, out, err, asked = type_(exchange, "keys", "rotate", "--runtime")
    assert (code, asked, out) == (0, {"command": "keys.rotate_runtime"}, "a -> b: record 9\n")
    assert json.loads(type_(exchange, "keys", "rotate", "--runtime", "--json")[1]) == exchange
    assert type_(exchange, "keys", "rotate")[0] == 2
    assert type_([KEY], "keys", "rotate", "bob")[3] == {"command": "keys.rotate", "agent": "bob"}


@pytest.mark.asyncio
async def test_what_an_operator_did_to_a_dead_letter_is_on_disk_before_he_hears_of_it(tmp_path: Path) -> None:
    rules = "permit(principal, action, resource);"
    async with _runtime(tmp_path, rules) as rt:
        alice, bob = await _agents(rt, "alice", "bob")

        def on_disk(action: str, key: str) -> list[str]:
            trail = symbi.AuditLog.open(rt.opened["trail"])
            found = [one.details for one in trail.query(event_type="operation", action=action)]
            return [details[key] for details in found if key in details]

        identity = await _dead(rt, alice, bob)
        (letter,) = rt.bus.dead_letters()
        assert await rt.bus.read_dead_letter(letter) == b"poison"
        assert on_disk("message.read", "message") == [identity]
        await rt.bus.revive(letter, by=OPERATOR)
        assert on_disk("operation.resolve", "revived") == [identity]
        (message,) = await rt.bus.receive_many(bob, timeout_s=20)
        await rt.bus.ack(bob, message)
        other = await _dead(rt, alice, bob)
        (row,) = await act(rt, OPERATOR, {"command": "letters.discard", "letter": other})
        assert "error" not in row
        assert on_disk("operation.resolve", "discarded") == [other]


@pytest.mark.asyncio
async def test_mg4_a_durable_sending_that_is_given_up_while_its_record_waits_is_sent_anew_under_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _runtime(tmp_path) as rt:
        alice, bob = await _agents(rt, "alice", "bob")
        await rt.bus.subscribe(bob, "news")
        identity, waits = rt.kernel.fresh_message_id(), asyncio.Event()

        async def never(seq: int | None) -> None:
            waits.set()
            await asyncio.Event().wait()

        async def send() -> str:
            return await rt.bus.send(alice, bob, b"sent", durable=True, id=identity)

        async def publish() -> str:
            return await rt.bus.publish(alice, "news", b"published", durable=True, id=identity)

        for begin in (send, publish):
            with monkeypatch.context() as patch:
                patch.setattr(rt.bridge, "durable", never)
                waits.clear()
                given_up = asyncio.create_task(begin())
                await waits.wait()
                with pytest.raises(symbi.InputError, match="on its way"):
                    await begin()
                given_up.cancel()
            try:
                await given_up
            except asyncio.CancelledError:  # whose traceback still holds all that the call had
                assert await begin() == identity
    async with _runtime(tmp_path) as rt:
        _, bob = await _agents(rt, "alice", "bob")
        (sent,) = await rt.bus.receive_many(bob)
        heard = await rt.bus.subscribe(bob, "news")
        published = await anext(aiter(heard))
        told = [(one.id, one.payload, one.attempt) for one in (sent, published)]
        assert told == [(identity, b"sent", 1), (identity, b"published", 1)], (
            "once each, in the next opening too"
        )
