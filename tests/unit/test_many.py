"""Many messages and their ids are sequences like lists: MY1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import symbi

if TYPE_CHECKING:
    from pathlib import Path


@symbi.agent(name="writer", isolation="in_process")
async def writer() -> None: ...


@symbi.agent(name="reader", isolation="in_process")
async def reader() -> None: ...


@pytest.mark.asyncio
async def test_my1_many_messages_are_what_a_list_of_them_would_be(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path, mode="development") as rt:
        one, other = await rt.schedule_agent(writer), await rt.schedule_agent(reader)
        parts = [symbi.Part("words", frozenset({"phi"}))]
        says: list[bytes | bytearray | list[symbi.Part]] = [b"0", parts, bytearray(b"2"), b"", b"4"]
        ids = await rt.bus.send_many(one, ((other, what) for what in says))  # type: ignore[misc]
        messages = await rt.bus.receive_many(other)
        plain = list(messages)
        assert [message.id for message in plain] == list(ids) == [ids[at] for at in range(5)], "MY1"
        assert len(messages) == len(ids) == 5
        assert messages
        assert ids
        assert messages.payloads == [message.payload for message in plain] == [b"0", parts, b"2", b"", b"4"]
        assert messages == plain
        assert plain == messages
        assert messages != plain[:4]
        assert messages != "0"
        assert messages[-1] == plain[-1]
        assert messages[1:3] == plain[1:3]
        assert ids[::-1] == list(ids)[::-1]
        assert messages + plain == plain + plain
        assert plain[2] in messages
        assert ids.index(ids[3]) == 3
        assert {(message.sender, message.sender_name) for message in plain} == {(one.id, "writer")}
        assert plain[1].labels == {"phi"}
        assert not plain[0].labels
        for wrong in (5, -6):
            with pytest.raises(IndexError):
                messages[wrong]
            with pytest.raises(IndexError):
                ids[wrong]
        with pytest.raises(TypeError):
            hash(messages)


@pytest.mark.asyncio
async def test_my1_an_empty_mailbox_is_an_empty_list(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path, mode="development") as rt:
        other = await rt.schedule_agent(reader)
        for nothing in (await rt.bus.receive_many(other), await rt.bus.receive_many(other, timeout_s=0)):
            assert nothing == []
            assert not nothing
            assert list(nothing) == nothing.payloads == nothing[:3] == []
            with pytest.raises(IndexError):
                nothing[0]
        ids = await rt.bus.send_many(other, [])
        assert ids == []
        assert not ids


@pytest.mark.asyncio
async def test_a_row_that_is_no_message_is_refused_and_none_is_sent(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path, mode="development") as rt:
        one, other = await rt.schedule_agent(writer), await rt.schedule_agent(reader)
        for wrong, error in (
            ((other, "text"), symbi.InputError),
            ((other, b"1", b"2"), symbi.InputError),
            ((7, b"1"), symbi.InputError),
            (b"1", symbi.InputError),
        ):
            with pytest.raises(error):
                await rt.bus.send_many(one, [(other, b"good"), wrong])  # type: ignore[list-item]
        assert await rt.bus.receive_many(other) == []
