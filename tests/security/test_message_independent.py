"""Messages of the bus are opened by cryptography and code that are not ours (M1, M2).

`docs/formats/open_message.py` was written from the page alone. It must open what the core has made, single, in a batch and
on a topic, and refuse whatever differs by a byte.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/formats/open_message.py"


def _independent() -> ModuleType:
    spec = importlib.util.spec_from_file_location("open_message", PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


page = _independent()
VECTORS: dict[str, Any] = json.loads((ROOT / "tests/data/message-v1.json").read_text())
RUNTIME = bytes.fromhex(VECTORS["runtime"])
PRIVATE = [bytes.fromhex(key) for key in VECTORS["agreement_private"]]
SENDER, RECIPIENT, MEMBER = (
    page.open_certificate(bytes.fromhex(raw), RUNTIME) for raw in VECTORS["certificates"]
)
PAIR = page.session_key(PRIVATE[1], SENDER, RECIPIENT)


def raw_messages(kind: str) -> list[bytes]:
    return [bytes.fromhex(raw) for raw in VECTORS[kind]]


def secret_of(kind: str, raw: bytes) -> bytes:
    if kind != "topic":
        return bytes(PAIR)
    wrapped = bytes.fromhex(VECTORS["wrapped_epoch_key"])
    found = page.unwrap_topic_key(PRIVATE[2], wrapped, "clinic.alerts", raw[84:100], MEMBER.agent)
    return bytes(found)


@pytest.mark.parametrize("kind", ["direct", "batch", "topic"])
def test_what_the_core_sealed_is_opened_by_a_page_of_python(kind: str) -> None:
    """Spec B4, B5, B8: each message by itself, those of a batch by their path to the signed root."""
    messages = raw_messages(kind)
    opened = [page.open_message(raw, SENDER, secret_of(kind, raw), VECTORS["now_us"]) for raw in messages]
    assert [payload.decode() for _, payload in opened] == VECTORS[f"{kind}_payloads"]
    assert all(header["topic"] == ("clinic.alerts" if kind == "topic" else "") for header, _ in opened)


@pytest.mark.parametrize("kind", ["direct", "batch", "topic"])
def test_m1_the_page_refuses_every_message_that_differs_by_a_byte(kind: str) -> None:
    """Header, seal, signature, place in the batch and path: each byte counts, and so does each length."""
    raw = raw_messages(kind)[-1]
    secret = secret_of(kind, raw)
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        with pytest.raises(page.RefusedError):
            page.open_message(changed, SENDER, secret, VECTORS["now_us"])
    for cut in [raw[:-1], raw + b"\0", raw[:-32], raw[:200], b""]:
        with pytest.raises(page.RefusedError):
            page.open_message(cut, SENDER, secret, VECTORS["now_us"])


def test_m2_another_sender_recipient_time_or_place_in_the_batch_is_refused() -> None:
    first, second = raw_messages("batch")[:2]
    now = VECTORS["now_us"]
    path_of_second = second[-98:]
    moved = first[: -len(path_of_second)] + path_of_second
    back = page.session_key(PRIVATE[0], RECIPIENT, SENDER)
    cases = [
        (moved, SENDER, PAIR, now),
        (first, RECIPIENT, PAIR, now),
        (first, SENDER, back, now),
        (first, SENDER, PAIR, now + 2 * 3_600_000_000),
        (first, SENDER, PAIR, now - 31_000_000),
    ]
    assert page.open_message(first, SENDER, PAIR, now)[1] == b"b0"
    for raw, sender, secret, at in cases:
        with pytest.raises(page.RefusedError):
            page.open_message(raw, sender, secret, at)


def test_ct1_a_certificate_that_differs_by_a_byte_is_none() -> None:
    raw = bytes.fromhex(VECTORS["certificates"][0])
    for at in range(len(raw)):
        with pytest.raises(page.RefusedError):
            page.open_certificate(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], RUNTIME)


def test_the_page_is_short_and_needs_nothing_of_ours() -> None:
    text = PAGE.read_text()
    assert len(text.splitlines()) < 150
    assert "import symbi" not in text
