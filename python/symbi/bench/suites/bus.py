"""What a message costs, from one agent to another, sealed, signed, decided by policy and recorded.

The work: 256 bytes of plain text, one sender, one recipient, the built-in policy, through the public interface
(`rt.bus`). Two peers do what a user would glue together: `asyncio.Queue` on one loop, and `queue.SimpleQueue` between
two threads, where each message is sealed with AES-256-GCM and signed with Ed25519, and verified and opened on the other
side, with `cryptography`, or with PyNaCl (its own seal, XSalsa20-Poly1305, since it has no AES). Neither asks a policy,
keeps a trail, or names who sent what to whom. The bare `asyncio.Queue` moves the same bytes and protects nothing: it
says what the event loop costs.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

import symbi
from symbi.bench.frame import BenchContext, NotMeasured, Peer, Point, Row, Sample, percentile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

NAME, SUMMARY = "bus", "messages: sealed, signed, decided, recorded"

_PAYLOAD = (b"The delivery of the second pallet is moved to the afternoon; please tell the driver. " * 4)[
    :256
]
_BATCH = 512  # messages in one crossing
_MESSAGES = 51_200
_SINGLE = 10_000
_PEER_MESSAGES = 5_000
_TRIPS = 3_000
_LOADS = (1_000, 5_000, 20_000, 50_000)  # offered, messages a second
_LOAD_S = 1.0
_BUFFER_BYTES = 8 << 20
_SHARES = (0.5, 0.99, 0.999)


@symbi.agent(name="bench", isolation="in_process")
async def _agent() -> None:
    """Never run: it lends its name."""


def rows(context: BenchContext) -> list[Row]:  # noqa: ARG001
    """The rows of this suite."""
    glued = [
        Peer("pynacl", partial(_glued, seal="pynacl", threads=False)),
        Peer("cryptography", partial(_glued, seal="cryptography", threads=False)),
    ]
    threads = [
        Peer(
            "pynacl, two threads",
            partial(_glued, seal="pynacl", threads=True),
            version=_with_threads("pynacl"),
        ),
        Peer(
            "cryptography, two threads",
            partial(_glued, seal="cryptography", threads=True),
            version=_with_threads("cryptography"),
        ),
    ]
    bare = Peer("asyncio.Queue, bare", _bare, version="standard library")
    return [
        _row(
            "messages/s, a signature each",
            "1/s",
            "higher",
            partial(_many, signing="each"),
            target=80_000,
            peers=[*glued, *threads, bare],
        ),
        _row(
            "messages/s, signed in batches",
            "1/s",
            "higher",
            partial(_many, signing="batch"),
            target=500_000,
            peers=[*glued, *threads, bare],
        ),
        _row("messages/s, one await each", "1/s", "higher", _one_by_one, peers=[*glued, bare]),
        _row("durable messages/s, one await each, 64 in flight", "1/s", "higher", _durable),
        _row("published messages/s, one subscriber", "1/s", "higher", partial(_published, subscribers=1)),
        _row(
            "deliveries/s of a topic with ten subscribers",
            "1/s",
            "higher",
            partial(_published, subscribers=10),
        ),
        _row("seal and open a message, native", "µs", "lower", _sealed, target=1.0),
        _row(
            "a round trip: request and reply, p50",
            "µs",
            "lower",
            partial(_trip, share=0.50),
            target=90.0,
            peers=[
                Peer("pynacl", partial(_glued_trip, seal="pynacl", share=0.50)),
                Peer("cryptography", partial(_glued_trip, seal="cryptography", share=0.50)),
            ],
        ),
        _row("a round trip: request and reply, p99", "µs", "lower", partial(_trip, share=0.99), target=200.0),
        _row("a round trip: request and reply, p99.9", "µs", "lower", partial(_trip, share=0.999)),
        *(
            _row(
                f"from send to handler at {load:,} messages/s, p{str(share * 100).removesuffix('.0')}",
                "µs",
                "lower",
                partial(_loaded, load=load, share=share),
                point=Point(
                    f"latency against offered load, p{str(share * 100).removesuffix('.0')}",
                    load,
                    "messages/s",
                ),
            )
            for share in (0.5, 0.99, 0.999)
            for load in _LOADS
        ),
    ]


def _rate(count: int, took_s: float, times_us: list[float]) -> Sample:
    """Messages a second, and how long one took from the call that sends it until its reader has it."""
    times_us.sort()
    return Sample(count / took_s, *(percentile(times_us, at) for at in _SHARES))


def _check(holds: bool) -> None:
    """A figure of work that was not done is no figure."""
    if not holds:
        raise NotMeasured("the messages that were sent did not all arrive")


def _with_threads(package: str) -> str:
    """The version of a peer that stands in a row a second time; empty, and so left out, where it is not there."""
    try:
        return f"{metadata.version(package)}, SimpleQueue"
    except metadata.PackageNotFoundError:
        return ""


def _row(name: str, unit: str, better: Any, measure: Callable[[BenchContext], Sample], **more: Any) -> Row:
    durability = "each" if "durable" in name else "group commit"
    return Row(NAME, name, unit, better, measure, durability=durability, provider="aws-lc", **more)


# Ours


def _run(context: BenchContext, work: Callable[[symbi.Runtime], Awaitable[Sample]]) -> Sample:
    """`work` in a fresh runtime with room for the batches of this suite."""

    async def opened() -> Sample:
        config = symbi.Config.load(
            environ={},
            overrides={"runtime.mode": "development", "runtime.message_buffer_size": _BUFFER_BYTES},
        )
        async with symbi.Runtime.open(config, data=context.fresh()) as rt:
            return await work(rt)

    return asyncio.run(opened())


def _numbered(number: int) -> bytes:
    """The payload as no other message has it: begun with its number, in letters, since words are the work."""
    return bytes(ord("a") + (number >> shift & 15) for shift in (12, 8, 4, 0)) + _PAYLOAD[4:]


async def _pair(rt: symbi.Runtime) -> tuple[symbi.AgentHandle, symbi.AgentHandle]:
    return await rt.schedule_agent(_agent), await rt.schedule_agent(_agent)


def _many(context: BenchContext, signing: Any) -> Sample:
    async def work(rt: symbi.Runtime) -> Sample:
        sender, recipient = await _pair(rt)
        batch = [(recipient, _numbered(number)) for number in range(_BATCH)]
        rounds = context.scale(_MESSAGES) // _BATCH
        says: list[Any] = []
        times: list[float] = []
        begin, received = time.perf_counter(), 0
        for _ in range(rounds):
            at = time.perf_counter()
            await rt.bus.send_many(sender, batch, signing=signing)
            says = (await rt.bus.receive_many(recipient, limit=_BATCH)).payloads
            received += len(says)
            times += [(time.perf_counter() - at) * 1e6] * len(says)
        took = time.perf_counter() - begin
        _check(received == rounds * _BATCH and says == [payload for _, payload in batch])
        return _rate(received, took, times)

    return _run(context, work)


def _one_by_one(context: BenchContext) -> Sample:
    async def work(rt: symbi.Runtime) -> Sample:
        sender, recipient = await _pair(rt)
        count = context.scale(_SINGLE)
        sent_at: list[float] = []
        times: list[float] = []
        begin = time.perf_counter()
        for number in range(1, count + 1):
            sent_at.append(time.perf_counter())
            await rt.bus.send(sender, recipient, _PAYLOAD)
            if number % 64 == 0 or number == count:
                received = len(await rt.bus.receive_many(recipient))
                now = time.perf_counter()
                times += [(now - at) * 1e6 for at in sent_at[len(times) : len(times) + received]]
        took = time.perf_counter() - begin
        _check(len(times) == count)
        return _rate(count, took, times)

    return _run(context, work)


def _sealed(context: BenchContext) -> Sample:
    """AES-256-GCM alone, in the binding, with the bytes of a header beside the payload."""

    async def work(rt: symbi.Runtime) -> Sample:
        times = context.scale(_MESSAGES)
        begin = time.perf_counter()
        rt.kernel.seal_and_open(_PAYLOAD, times)
        return Sample((time.perf_counter() - begin) / times * 1e6)

    return _run(context, work)


def _durable(context: BenchContext) -> Sample:
    async def work(rt: symbi.Runtime) -> Sample:
        sender, recipient = await _pair(rt)
        count = context.scale(_SINGLE)

        times: list[float] = []

        async def send(share: int) -> None:
            for _ in range(share):
                at = time.perf_counter()
                await rt.bus.send(sender, recipient, _PAYLOAD, durable=True)
                times.append((time.perf_counter() - at) * 1e6)  # until it is on disk

        async def receive() -> None:
            received = 0
            while received < count // 64 * 64:
                messages = await rt.bus.receive_many(recipient, timeout_s=30)
                await rt.bus.ack(recipient, *messages)
                received += len(messages)

        begin = time.perf_counter()
        await asyncio.gather(receive(), *(send(count // 64) for _ in range(64)))
        return _rate(count // 64 * 64, time.perf_counter() - begin, times)

    return _run(context, work)


def _published(context: BenchContext, subscribers: int) -> Sample:
    async def work(rt: symbi.Runtime) -> Sample:
        sender, recipient = await _pair(rt)
        heard = [await rt.bus.subscribe(recipient, "bench.*") for _ in range(subscribers)]
        count = context.scale(_SINGLE) // subscribers
        sent_at: list[float] = []
        times: list[float] = []
        begin, first = time.perf_counter(), 0
        for number in range(1, count + 1):
            sent_at.append(time.perf_counter())
            await rt.bus.publish(sender, "bench.topic", _PAYLOAD)
            if number % 64 == 0 or number == count:
                for one in heard:
                    received = len(await one.receive())
                    now = time.perf_counter()
                    times += [(now - at) * 1e6 for at in sent_at[first : first + received]]
                first = number
        took = time.perf_counter() - begin
        _check(len(times) == count * subscribers)
        return _rate(len(times), took, times)

    return _run(context, work)


def _trip(context: BenchContext, share: float) -> Sample:
    async def work(rt: symbi.Runtime) -> Sample:
        sender, recipient = await _pair(rt)

        async def answer(message: Any) -> None:
            await rt.bus.reply(recipient, message, message.payload)

        inbox = await rt.bus.listen(recipient, answer)
        times = []
        for number in range(context.scale(_TRIPS, floor=1_000)):
            begin = time.perf_counter_ns()
            await rt.bus.request(sender, recipient, _PAYLOAD)
            if number >= 100:
                times.append((time.perf_counter_ns() - begin) / 1e3)
        await inbox.unsubscribe()
        times.sort()
        return Sample(percentile(times, share), *(percentile(times, at) for at in _SHARES))

    return _run(context, work)


def _loaded(context: BenchContext, load: int, share: float) -> Sample:
    """From the moment a message is due to the moment its handler is called: a sender that falls behind is seen."""

    async def work(rt: symbi.Runtime) -> Sample:
        sender, recipient = await _pair(rt)
        times: list[float] = []
        due: list[float] = []

        async def handler(_message: Any) -> None:
            times.append((time.perf_counter() - due[len(times)]) * 1e6)

        inbox = await rt.bus.listen(recipient, handler)
        span = _LOAD_S / 4 if context.quick else _LOAD_S
        begin, sent = time.perf_counter(), 0
        while (now := time.perf_counter() - begin) < span:
            while sent <= int(now * load):  # what is due now, and no later
                due.append(begin + sent / load)
                await rt.bus.send(sender, recipient, _PAYLOAD)
                sent += 1
            await asyncio.sleep(0)
        while len(times) < sent and time.perf_counter() - begin < 10 * span:  # noqa: ASYNC110
            await asyncio.sleep(0.001)  # the handler is at work meanwhile
        await inbox.unsubscribe()
        if len(times) < sent:
            raise NotMeasured(f"this machine does not keep up with {load:,} messages/s")
        times.sort()
        return Sample(percentile(times, share), *(percentile(times, at) for at in _SHARES))

    return _run(context, work)


# Peers


class _Seal(Protocol):
    """One direction between two parties: sealed and signed, verified and opened."""

    def close(self, payload: bytes) -> bytes: ...
    def open(self, envelope: bytes) -> bytes: ...


class _PyNaCl:
    def __init__(self) -> None:
        from nacl.secret import SecretBox
        from nacl.signing import SigningKey

        self._key = SigningKey.generate()
        self._public = self._key.verify_key
        self._box = SecretBox(os.urandom(32))

    def close(self, payload: bytes) -> bytes:
        return bytes(self._key.sign(bytes(self._box.encrypt(payload))))

    def open(self, envelope: bytes) -> bytes:
        return bytes(self._box.decrypt(self._public.verify(envelope)))


class _Cryptography:
    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._key = Ed25519PrivateKey.generate()
        self._public = self._key.public_key()
        self._aead = AESGCM(AESGCM.generate_key(256))
        self._sent = 0

    def close(self, payload: bytes) -> bytes:
        self._sent += 1
        nonce = self._sent.to_bytes(12, "big")
        sealed = nonce + self._aead.encrypt(nonce, payload, None)
        return self._key.sign(sealed) + sealed

    def open(self, envelope: bytes) -> bytes:
        signature, sealed = envelope[:64], envelope[64:]
        self._public.verify(signature, sealed)
        return self._aead.decrypt(sealed[:12], sealed[12:], None)


_SEALS: dict[str, Callable[[], _Seal]] = {"pynacl": _PyNaCl, "cryptography": _Cryptography}


def _glued(context: BenchContext, seal: str, threads: bool) -> Sample:
    made, count = _SEALS[seal](), context.scale(_PEER_MESSAGES)
    begin = time.perf_counter()
    if threads:
        _between_threads(made, count)
    else:
        asyncio.run(_on_one_loop(made, count))
    return Sample(count / (time.perf_counter() - begin))


def _between_threads(seal: _Seal, count: int) -> None:
    line: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def send() -> None:
        for _ in range(count):
            line.put(seal.close(_PAYLOAD))

    sender = threading.Thread(target=send)
    sender.start()
    for _ in range(count):
        _check(seal.open(line.get()) == _PAYLOAD)
    sender.join()


async def _on_one_loop(seal: _Seal, count: int) -> None:
    line: asyncio.Queue[bytes] = asyncio.Queue(1_024)

    async def send() -> None:
        for _ in range(count):
            await line.put(seal.close(_PAYLOAD))

    sender = asyncio.create_task(send())
    for _ in range(count):
        _check(seal.open(await line.get()) == _PAYLOAD)
    await sender


def _bare(context: BenchContext) -> Sample:
    async def work() -> float:
        line: asyncio.Queue[bytes] = asyncio.Queue(1_024)
        count = context.scale(_MESSAGES)

        async def send() -> None:
            for _ in range(count):
                await line.put(_PAYLOAD)

        begin = time.perf_counter()
        sender = asyncio.create_task(send())
        for _ in range(count):
            await line.get()
        await sender
        return count / (time.perf_counter() - begin)

    return Sample(asyncio.run(work()))


def _glued_trip(context: BenchContext, seal: str, share: float) -> Sample:
    async def work() -> list[float]:
        there, back = _SEALS[seal](), _SEALS[seal]()
        asked: asyncio.Queue[bytes] = asyncio.Queue()
        answered: asyncio.Queue[bytes] = asyncio.Queue()

        async def answer() -> None:
            while True:
                await answered.put(back.close(there.open(await asked.get())))

        answering = asyncio.create_task(answer())
        times = []
        for _ in range(context.scale(_TRIPS, floor=1_000)):
            begin = time.perf_counter_ns()
            await asked.put(there.close(_PAYLOAD))
            back.open(await answered.get())
            times.append((time.perf_counter_ns() - begin) / 1e3)
        answering.cancel()
        return sorted(times)

    times = asyncio.run(work())
    return Sample(percentile(times, share), percentile(times, 0.5), percentile(times, 0.99))
