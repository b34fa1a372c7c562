"""Kinds accept whole values in their range, from text and from a file alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from symbi.config.values import (
    Boolean,
    Choice,
    Duration,
    Kind,
    Number,
    Paths,
    RefusedError,
    Secret,
    Size,
    Text,
    Url,
)

HERE = Path("/base")


def refuses(kind: Kind, value: object) -> bool:
    try:
        kind.parse(value, HERE)
    except RefusedError:
        return True
    return False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (0, 0),
        (1048576, 1048576),
        ("1048576", 1048576),
        ("64KiB", 65536),
        ("1GB", 10**9),
        ("1 gib", 1 << 30),
        ("12 b", 12),
    ],
)
def test_sizes_have_units(text: object, expected: int) -> None:
    assert Size(0, 1 << 40).parse(text, HERE) == expected


@pytest.mark.parametrize(
    "text", ["", "1.5GB", "GB", "-1", "1 XB", "1e9", "0x10", "9" * 16, True, 1.0, None, []]
)
def test_what_is_no_size_is_refused(text: object) -> None:
    """CV1: nothing is rounded or guessed."""
    assert refuses(Size(0, 1 << 60), text)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Duration(1, 60_000, "ms"), 100, 100),
        (Duration(1, 60_000, "ms"), "2s", 2000),
        (Duration(1, 3_600, "s"), "5m", 300),
        (Duration(1, 36_500, "d"), "365", 365),
        (Duration(1, 36_500, "d"), "48h", 2),
    ],
)
def test_durations_are_in_the_unit_of_their_key(kind: Duration, value: object, expected: int) -> None:
    assert kind.parse(value, HERE) == expected


def test_a_duration_that_is_no_whole_number_of_its_unit_is_refused() -> None:
    """CV1."""
    assert refuses(Duration(1, 36_500, "d"), "36h")
    assert refuses(Duration(1, 3_600, "s"), "100ms")


@given(st.integers())
def test_a_number_from_a_variable_is_the_number_from_a_file(value: int) -> None:
    """CV2, and CV1 at both ends."""
    kind = Number(1, 256)
    inside = 1 <= value <= 256
    assert refuses(kind, value) != inside
    assert refuses(kind, str(value)) != inside
    if inside:
        assert kind.parse(str(value), HERE) == kind.parse(value, HERE) == value


@given(st.text())
def test_no_text_makes_a_kind_fail_otherwise_than_by_refusing(text: str) -> None:
    kinds: list[Kind] = [
        Number(0, 9),
        Size(0, 9),
        Duration(0, 9, "s"),
        Boolean(),
        Choice(("a",)),
        Text(),
        Url(),
        Paths(),
    ]
    for kind in kinds:
        refuses(kind, text)


@pytest.mark.parametrize("word", ["true", "1", "yes", "on", "enabled", "TRUE"])
def test_words_of_yes(word: str) -> None:
    assert Boolean().parse(word, HERE) is True


@pytest.mark.parametrize("word", ["false", "0", "no", "off", "disabled"])
def test_words_of_no(word: str) -> None:
    assert Boolean().parse(word, HERE) is False


def test_a_choice_takes_its_aliases_and_says_its_words() -> None:
    kind = Choice(("gvisor", "docker"), aliases=(("tier2", "gvisor"),))
    assert kind.parse("Tier2", HERE) == "gvisor"
    assert kind.accepted == 'one of "gvisor", "docker"'
    assert refuses(kind, "tier3")


@pytest.mark.parametrize(
    "text",
    [
        "localhost:6333",
        "ftp://host",
        "http://",
        "http://user:word@host",
        "http://host:0",
        "http://host:99999",
        "http://[",
        3,
    ],
)
def test_what_is_no_address_is_refused(text: object) -> None:
    assert refuses(Url(), text)


def test_paths_are_a_list_or_joined_by_colons(tmp_path: Path) -> None:
    """CV2."""
    (tmp_path / "a").touch()
    (tmp_path / "b").mkdir()
    expected = (tmp_path / "a", tmp_path / "b")
    assert Paths().parse(["a", "b"], tmp_path) == expected
    assert Paths().parse("a:b", tmp_path) == expected
    assert Paths().parse([tmp_path / "a", tmp_path / "b"], HERE) == expected


def test_a_refused_secret_is_not_repeated() -> None:
    """CV3."""
    with pytest.raises(RefusedError) as caught:
        Secret().parse("two\nlines", HERE)
    assert "two" not in str(caught.value)
