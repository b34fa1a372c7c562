"""Whose key was valid when, found by code that is not ours from the lines of a trail (M2).

`docs/formats/message_keys.py` was written from the page alone: it must answer what the runtime has done, and refuse a trail
whose keys were tampered with by whoever could sign its lines.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

if TYPE_CHECKING:
    from types import ModuleType

PAGE = Path(__file__).parents[2] / "docs/formats/message_keys.py"
OPERATOR = "operator:1000"


def _page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("message_keys", PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


page = _page()


@symbi.agent(name="quiet", isolation="in_process")
async def quiet() -> None: ...


async def _trail(data: Path) -> tuple[bytes, list[dict[str, Any]], list[symbi.AgentHandle]]:
    """Two agents that talk; the first is revoked and given other keys; the runtime's key is exchanged, twice."""
    agents = []
    async with symbi.Runtime.open(data=data, mode="development") as rt:
        for name in ("alice", "bob"):
            config = symbi.AgentConfig(name=name, function=quiet.function, isolation="in_process")
            agents.append(await rt.schedule_agent(config))
        await rt.bus.send(*agents, b"under the first key")
        await rt.bus.receive_many(agents[1])
        await rt.keys.rotate_runtime(by=OPERATOR)
        await rt.keys.revoke(agents[0], by=OPERATOR)
        await rt.keys.rotate(agents[0], by=OPERATOR)
        await rt.bus.send(*agents, b"under the second")
        await rt.bus.receive_many(agents[1])
        await rt.keys.rotate_runtime(by=OPERATOR)
    async with symbi.Runtime.open(data=data, mode="development"):
        pass
    private = load_pem_private_key((data / "keys/signing.key").read_bytes(), None)
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    lines = [
        json.loads(line)
        for segment in sorted((data / "trail").glob("*.jsonl"))
        for line in segment.read_bytes().splitlines()
    ]
    return public, lines, agents


def _keys(lines: list[dict[str, Any]], public: bytes) -> Any:
    return page.Keys((json.dumps(line).encode() for line in lines), public)


@pytest.mark.asyncio
async def test_a_stranger_finds_whose_key_was_valid_when_and_who_lies_about_it(tmp_path: Path) -> None:
    public, lines, (alice, bob) = await _trail(tmp_path / "data")
    keys = _keys(lines, public)
    mine = [term for term in keys.terms if term.agent == uuid.UUID(alice.id).bytes]
    firsts = [term for term in mine if term.signing == mine[0].signing]
    assert len({term.signing for term in mine}) == 2, "before and after the revocation"
    said = [
        line["seq"]
        for line in lines
        if line["event_type"] == "operation"
        and line["agent_id"] == alice.id
        and "messages" in line["details"]
    ]
    assert len(said) == 2
    old, new = (bytes.fromhex(page.key_id(term.signing)) for term in (mine[0], mine[-1]))
    at_us = mine[0].not_before_us
    who = uuid.UUID(alice.id).bytes
    assert keys.vouched(who, old, at_us, said[0]).signing == firsts[0].signing
    assert len(firsts) == 2, "one under each of the runtime's keys"
    assert keys.vouched(who, new, mine[-1].not_before_us, said[1]).until_seq is None
    for agent, key, at, seq in [
        (who, old, at_us, said[1]),  # revoked by then, with both of its certificates
        (who, new, mine[-1].not_before_us, said[0]),  # not certified yet
        (uuid.UUID(bob.id).bytes, old, at_us, said[0]),  # another's
        (who, old, at_us - 40_000_000, said[0]),  # made before the certificate's time
    ]:
        with pytest.raises(page.RefusedError):
            keys.vouched(agent, key, at, seq)

    def tampered(kind: str, change: Any) -> list[dict[str, Any]]:
        copied = [json.loads(json.dumps(line)) for line in lines]
        change(next(line for line in copied if line["event_type"] == kind)["details"])
        return copied

    def flipped(name: str) -> Any:
        def flip(details: dict[str, Any]) -> None:
            raw = bytearray(base64.b64decode(details[name]))
            raw[-1] ^= 1
            details[name] = base64.b64encode(raw).decode()

        return flip

    bad = [tampered("key.exchanged", flipped(name)) for name in ("by_before", "by_after", "after_public")]
    bad.append(tampered("key.certified", flipped("certificate")))
    bad.append([line for line in lines if line["event_type"] != "key.exchanged"])
    bad.append(tampered("runtime.opened", lambda details: details.update(message_key="00" * 16)))
    for forged in bad:
        with pytest.raises(page.RefusedError):
            _keys(forged, public)
