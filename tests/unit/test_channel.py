"""The lines between the runtime and an agent: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
import symbi
from hypothesis import given
from hypothesis import strategies as st
from symbi.agents.channel import DEPTH_MAX, decode, encode, plain
from symbi.agents.parts import PartSource

_PARTS = st.builds(
    symbi.Part,
    st.text(max_size=20),
    st.frozensets(st.from_regex(r"[a-z]{1,8}", fullmatch=True), max_size=3),
    st.none() | st.builds(PartSource, *[st.integers(0, 2**53)] * 3),
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | _PARTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def _holds_a_taken_name(value: Any) -> bool:
    if isinstance(value, dict):
        return value.keys() in ({"$bytes"}, {"$part"}) or any(map(_holds_a_taken_name, value.values()))
    return isinstance(value, list) and any(map(_holds_a_taken_name, value))


@given(_VALUES)
def test_c1_what_is_encoded_is_decoded_as_it_was_or_refused(value: Any) -> None:
    try:
        line = encode({"value": value})
    except ValueError:
        assert _holds_a_taken_name(value)
        return
    assert decode(line) == {"value": value}
    assert b"\n" not in line


@pytest.mark.parametrize("name", ["$bytes", "$part"])
def test_c1_a_dict_that_looks_like_bytes_is_refused_and_not_changed_on_the_way(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        encode({"outer": [{name: "aGk="}]})
    assert plain({name: "aGk=", "and": "another"}) == {name: "aGk=", "and": "another"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_c1_a_float_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encode({"x": value})


def test_c1_a_value_of_another_kind_is_refused_by_its_name() -> None:
    with pytest.raises(TypeError, match="`object`"):
        encode({"x": object()})


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "JSON"),
        (b"\xff{}", "JSON"),
        (b"[]", "object"),
        (b'"text"', "object"),
        (b'{"a":1,"a":2}', "twice"),
        (b'{"a":{"b":1,"b":2}}', "twice"),
        (b'{"x":{"$bytes":"!"}}', "base64"),
        (b'{"x":{"$bytes":7}}', "base64"),
        (b'{"x":{"$part":{}}}', "text"),
        (b'{"x":{"$part":{"text":"t","labels":"secret"}}}', "labels"),
        (b'{"x":{"$part":{"text":"t","source":[1,2]}}}', "source"),
        (b'{"x":{"$part":{"text":"t","source":[1,2,true]}}}', "source"),
        (b'{"x":{"$part":{"text":"t","other":1}}}', "text"),
        (b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1), "deeper"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deeper"),
        (b'{"x":' * 300 + b"1" + b"}" * 300, "deeper"),
    ],
)
def test_c2_a_line_that_is_none_of_ours_is_a_value_error(line: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)" + ("expecting|JSON" if why == "JSON" else why)):
        decode(line)


@given(st.binary(max_size=200))
def test_c2_any_bytes_are_a_dict_or_a_value_error(line: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(decode(line), dict)


def test_c2_brackets_inside_texts_do_not_count_as_depth() -> None:
    text = "[{" * 500 + '\\"'
    assert decode(json.dumps({"x": [text]}).encode()) == {"x": [text]}


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_c2_a_number_that_json_does_not_have_is_refused(number: bytes) -> None:
    with pytest.raises(ValueError, match="number"):
        decode(b'{"x":' + number + b"}")


def test_c2_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogate"):
        decode(b'{"x":"\\ud800"}')
