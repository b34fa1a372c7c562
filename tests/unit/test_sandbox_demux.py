"""The attach stream's parser, fed by hand: any cut, any size, any lie."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from symbi.errors import SandboxError
from symbi.sandbox.base import LINE_BYTES_MAX
from symbi.sandbox.demux import STDERR_TAIL_BYTES, Demultiplexer


def frame(stream: int, payload: bytes) -> bytes:
    """One frame as the engine writes it."""
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


pieces = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=12)


@given(pieces=pieces, cuts=st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_what_comes_out_does_not_depend_on_the_cut(pieces: list[tuple[int, bytes]], cuts: list[int]) -> None:
    """M1: against the plainest model there is: join, then split."""
    stream = b"".join(frame(kind, payload) for kind, payload in pieces)
    demultiplexer = Demultiplexer(1 << 20)
    lines: list[bytes] = []
    at = turn = 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        lines += demultiplexer.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    said = b"".join(payload for kind, payload in pieces if kind == 1)
    assert lines == said.split(b"\n")[:-1]
    assert demultiplexer.stderr_tail() == b"".join(payload for kind, payload in pieces if kind == 2)
    assert demultiplexer.output_bytes == sum(len(payload) for _, payload in pieces)


def test_a_line_of_the_longest_size_passes_and_one_byte_more_does_not() -> None:
    """M3, in one piece and in two."""
    longest = b"x" * LINE_BYTES_MAX
    assert Demultiplexer(1 << 30).feed(frame(1, longest + b"\n")) == [longest]
    for cut in (1, LINE_BYTES_MAX, LINE_BYTES_MAX + 1):
        demultiplexer = Demultiplexer(1 << 30)
        whole = longest + b"x\n"
        assert demultiplexer.feed(frame(1, whole[:cut])) + demultiplexer.feed(frame(1, whole[cut:])) == []
        assert demultiplexer.overflow
        assert demultiplexer.feed(frame(1, b"more\n")) == []


def test_a_frame_that_announces_gibibytes_allocates_nothing() -> None:
    """M2: the length is counted down; the unfinished line is cut off at its limit."""
    demultiplexer = Demultiplexer(1 << 40)
    demultiplexer.feed(b"\x01\0\0\0\xff\xff\xff\xff")
    for _ in range(40):
        demultiplexer.feed(b"y" * 65_536)
    assert demultiplexer.overflow
    assert demultiplexer.unfinished_bytes == 0


def test_a_flood_of_stderr_keeps_its_end_alone() -> None:
    """M2: bounded, and the newest bytes are the ones that are kept."""
    demultiplexer = Demultiplexer(1 << 40)
    for number in range(200):
        demultiplexer.feed(frame(2, bytes([number]) * 1000))
    tail = demultiplexer.stderr_tail()
    assert len(tail) == STDERR_TAIL_BYTES
    assert tail.endswith(bytes([199]) * 1000)
    assert len(demultiplexer._stderr) <= 2 * STDERR_TAIL_BYTES


def test_the_sum_of_both_streams_is_bounded() -> None:
    """M3: stderr counts."""
    demultiplexer = Demultiplexer(100)
    assert demultiplexer.feed(frame(1, b"a" * 49 + b"\n")) == [b"a" * 49]
    demultiplexer.feed(frame(2, b"b" * 51))
    assert demultiplexer.overflow


@pytest.mark.parametrize(
    "header", [b"\x00\0\0\0\0\0\0\1", b"\x03\0\0\0\0\0\0\1", b"\x01\0\1\0\0\0\0\1", b"HTTP/1.1"]
)
def test_a_stream_without_headers_is_refused(header: bytes) -> None:
    """A tty, or a peer that is no engine: not guessed at."""
    with pytest.raises(SandboxError, match="not multiplexed"):
        Demultiplexer(100).feed(header)
