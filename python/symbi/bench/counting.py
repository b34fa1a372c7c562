"""Rows of decisions that read counters over a long history, through an open runtime.

What is asked: one agent sends a message to another, by policies that read three counters: how many it sent, how many
bytes its tenant sent, to how many different agents. All that came before lies within the window of a day. Measured
are two things, from Python: the decision alone, which is promised (the question made, reserved in each counter,
decided, given back: `Kernel.rehearse_message`), and the whole operation, which is besides sealed, recorded in the
log's buffer and delivered.
Not here: decisions without a history (`suites.decide`).
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import symbi
from symbi.bench.frame import BenchContext, Row, Sample, latency_us, sample_ns

if TYPE_CHECKING:
    from pathlib import Path

_EVENTS = 1_000_000
_ASKED = 20_000
_BATCH = 1_000
_RECIPIENTS = 8
_PAYLOAD = b"x" * 100
_BUFFER_BYTES = 16 * 1024 * 1024  # a batch and what belongs to it

_COUNTERS = """
[counters.sent]
action = "message.send"
per = "principal"
window_s = 86400
kind = "count"

[counters.sent_bytes]
action = "message.send"
per = "tenant"
window_s = 86400
kind = "sum"
of = "bytes"

[counters.partners]
action = "message.send"
per = "principal"
window_s = 86400
kind = "distinct"
of = "resource"
"""

_POLICY = """
permit (principal is Host, action, resource);
permit (principal is Agent, action == Action::"message.send", resource is Agent)
when { context.counters.sent < 100000000 && context.counters.sent_bytes < 100000000000 };
forbid (principal is Agent, action == Action::"message.send", resource)
when { context.counters.partners > 100 };
"""


class _History(NamedTuple):
    kernel: Any
    sender: str
    recipients: list[str]


def rows(suite: str, context: BenchContext) -> list[Row]:
    """The rows, under the name of the suite that shows them."""
    events = context.scale(_EVENTS)
    decided = "p99 of one decision by three counters over {:,} events"
    sent = "p99 of one message sent and decided by counters over {:,} events"
    return [
        *(
            Row(
                suite,
                decided.format(count),
                "µs",
                "lower",
                measure=partial(_decided_p99, events=count),
                target=25.0,
            )
            for count in (events // 1_000, events)
        ),
        *(
            Row(
                suite,
                sent.format(count),
                "µs",
                "lower",
                measure=partial(_sent_p99, events=count),
                durability="group commit, not awaited",
                provider="aws-lc",
            )
            for count in (events // 1_000, events)
        ),
    ]


def _history(context: BenchContext, events: int) -> _History:
    return context.once(f"counting/{events}", lambda: _opened(context, events))


def _decided_p99(context: BenchContext, events: int) -> Sample:
    history = _history(context, events)
    decide = partial(history.kernel.rehearse_message, history.sender, history.recipients[0], len(_PAYLOAD))
    effect, paid, _, counters = decide()
    if (effect, paid) != ("allow", True) or dict(counters)["sent"] <= events:
        raise AssertionError(f"{effect} by {counters}: not what was to be decided")
    told = latency_us(sample_ns(decide, context.scale(_ASKED)))
    return Sample(told.p99 or 0.0, told.p50, told.p99)


def _sent_p99(context: BenchContext, events: int) -> Sample:
    history = _history(context, events)
    recipient = history.recipients[0]
    times: list[int] = []
    for _ in range(context.scale(_ASKED) // _BATCH):
        send = partial(history.kernel.send, history.sender, recipient, _PAYLOAD)
        times += sample_ns(send, _BATCH)
        history.kernel.receive_many(recipient, _BATCH)
    times.sort()
    told = latency_us(times)
    return Sample(told.p99 or 0.0, told.p50, told.p99)


def _opened(context: BenchContext, events: int) -> _History:
    data = context.fresh()
    policies: list[Path] = [data / "messages.cedar", data / "messages.counters.toml"]
    for file, text in zip(policies, (_POLICY, _COUNTERS), strict=True):
        file.write_text(text)
    loop = asyncio.new_event_loop()
    context.stack.callback(loop.close)
    config = symbi.Config.load(
        environ={}, overrides={"runtime.mode": "development", "runtime.message_buffer_size": _BUFFER_BYTES}
    )

    @symbi.agent(name="bench-counted", isolation="in_process")
    async def counted() -> None:
        """Never run: it lends its name."""

    async def opened() -> _History:
        runtime = await stack.enter_async_context(
            symbi.Runtime.open(config, data=data / "data", policy=policies)
        )
        sender, *recipients = [await runtime.schedule_agent(counted) for _ in range(1 + _RECIPIENTS)]
        for first in range(0, events, _BATCH):
            to, count = recipients[first // _BATCH % _RECIPIENTS], min(_BATCH, events - first)
            await runtime.bus.send_many(sender, [(to, _PAYLOAD)] * count)
            if len(await runtime.bus.receive_many(to, limit=_BATCH)) != count:
                raise AssertionError("a message of the history was not received")
        return _History(runtime.kernel, sender.id, [agent.id for agent in recipients])

    stack = contextlib.AsyncExitStack()
    history = loop.run_until_complete(opened())
    context.stack.callback(lambda: loop.run_until_complete(stack.aclose()))
    return history
