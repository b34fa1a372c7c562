"""The policies that were in force are found again by their digest, and nothing else is taken for them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from symbi._core import builtin_policy, policy_set
from symbi.policy.archive import keep, recall
from symbi.policy.recorded import RecordedSet
from symbi.policy.sources import PolicyTexts

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = PolicyTexts((("a.cedar", '@id("a") permit (principal, action, resource);'),), ())
DIGEST = policy_set(list(TEXTS.sources))[0]


def test_ar1_a_set_is_kept_once_for_its_owner_alone(tmp_path: Path) -> None:
    keep(tmp_path, DIGEST, TEXTS)
    (file,) = (tmp_path / "policies").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_bytes()
    keep(tmp_path, DIGEST, PolicyTexts((("b.cedar", ""),), ()))
    assert file.read_bytes() == before
    assert recall(tmp_path, DIGEST) == TEXTS


def test_ar1_where_nothing_can_be_written_nothing_is_kept_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "policies").write_text("no directory")
    keep(tmp_path, DIGEST, TEXTS)
    assert recall(tmp_path, DIGEST) is None


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"sources": 1, "counters": []}', '{"sources": [["a"]], "counters": []}']
)
def test_ar2_a_file_that_was_changed_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    keep(tmp_path, DIGEST, TEXTS)
    (file,) = (tmp_path / "policies").iterdir()
    file.write_text(content)
    assert recall(tmp_path, DIGEST) is None
    file.write_text(
        json.dumps({"sources": [["a.cedar", "permit (principal, action, resource);"]], "counters": []})
    )
    assert recall(tmp_path, DIGEST) is None


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 64])
def test_ar2_what_is_no_digest_is_not_looked_for(tmp_path: Path, digest: str) -> None:
    assert recall(tmp_path, digest) is None


def test_rd1_the_set_of_a_record_is_kept_builtin_or_said_to_differ(tmp_path: Path) -> None:
    keep(tmp_path, DIGEST, TEXTS)
    assert RecordedSet.in_force(tmp_path, DIGEST, None).same
    of_default, _ = policy_set(None)
    assert RecordedSet.in_force(tmp_path, of_default, None).origin == "the built-in `secure-default`"
    demo = [(f"builtin:{name}", builtin_policy(name)) for name in ("secure-default", "demo")]
    of_demo, _ = policy_set(demo)
    assert RecordedSet.in_force(tmp_path, of_demo, None).same
    unknown = RecordedSet.in_force(tmp_path, "0" * 64, None)
    assert (unknown.same, unknown.texts) == (False, None)
    assert [rule.line for rule in RecordedSet.of(TEXTS, "", DIGEST).places(["a", "absent"])] == [1, None]
