"""The engine as Python sees it: typed, documented, and thin.

Invariants
- PE1 a set that does not compile changes nothing; the last good one keeps answering.
- PE2 no policy, no permit, a request that does not fit the schema: each is a `Deny`, never an exception.
- PE3 what cannot be a policy value (a float, None) is an `InputError`, never rounded, never dropped.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NewType, TypeAlias

from symbi import _core
from symbi.errors import InputError
from symbi.policy.explanation import Explanation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Decision", "Entity", "PolicyEngine", "PolicyId", "PolicyRequest"]

THREADS_DEFAULT = 2  # of a batch: the second is worth it from a few hundred requests on

PolicyId = NewType("PolicyId", str)
Entity: TypeAlias = "str | tuple[str, str]"
Decision: TypeAlias = "_core.Allow | _core.Deny | _core.AllowWithConditions"
PolicyRequest: TypeAlias = "tuple[Entity, str, Entity, dict[str, Any] | None]"


class PolicyEngine:
    """A policy set that answers. Safe to share between threads."""

    __slots__ = ("_native",)

    def __init__(
        self,
        schema: str | None = None,
        entities: Iterable[Mapping[str, Any]] | None = None,
        *,
        counters: str | None = None,
    ) -> None:
        """Makes an engine with no policy: it denies everything.

        Args:
            schema: `"symbi"` for the schema of symbi (and its operator set, decided first); a text in Cedar's
                schema language; `None` for no schema, any names, and no check of either policy or request.
            entities: See `set_entities`.
            counters: Declarations in TOML, as in a `*.counters.toml` file; only with `"symbi"` or no schema.

        Raises:
            PolicyError: schema or counters are not right; the text has file, line and column.
            InputError: entities that do not fit the schema.
        """
        self._native = _core.PolicyEngine(schema, counters)
        if entities is not None:
            self.set_entities(entities)

    def set_entities(self, entities: Iterable[Mapping[str, Any]]) -> None:
        """Replaces what is known of entities: attributes and parents. An unknown entity has neither.

        Args:
            entities: Each `{"uid": 'Agent::"a"' | ("Agent", "a"), "attrs": {…}, "parents": [uid, …]}`.
                A reference to an entity inside `attrs` is `{"__entity": {"type": "Agent", "id": "a"}}`.

        Raises:
            InputError: not that form, not the schema, the same entity twice, a circle of parents.

        Cost: proportional to all entities and policies; the swap itself is one pointer.
        """
        plain = [_entity(entity) for entity in entities]
        try:
            text = json.dumps(plain, allow_nan=False, default=_refuse)
        except (TypeError, ValueError) as error:
            raise InputError(f"entities hold what is not a policy value: {error}") from error
        self._native.set_entities(text)

    def register_policy(
        self,
        text: str,
        name: str | None = None,
        *,
        links: Sequence[Mapping[str, str]] = (),
    ) -> PolicyId:
        """Adds policies to the set; decisions that begin after it returns see them.

        Args:
            text: One or more Cedar policies, at most 1 MiB.
            name: Shown in diagnostics and default rule names, such as a path; unique in this engine.
            links: Templates of `text` made into rules: `{"template": its @id, "id": name of the rule,
                "principal": 'Agent::"a"', "resource": …}`, one entity per slot that the template has.

        Returns:
            What `unregister` takes: the name.

        Raises:
            PolicyError: the set would not compile; nothing was changed (PE1). One finding a line, as
                `name:line:column: code: message`.
            InputError: the name is taken.

        Cost: the whole set is compiled anew, each policy in fractions of a millisecond (`symbi bench decide` measures a
            change of a thousand). Register many in one text.
        """
        filled = [
            (link["template"], link["id"], link.get("principal"), link.get("resource")) for link in links
        ]
        return PolicyId(self._native.register_policy(text, name, filled))

    def unregister(self, policy_id: PolicyId) -> None:
        """Takes policies out again.

        Raises:
            InputError: nothing is registered under that id.
        """
        self._native.unregister(policy_id)

    def evaluate_policy(
        self, principal: Entity, action: str, resource: Entity, context: dict[str, Any] | None = None
    ) -> Decision:
        """Decides one request.

        Args:
            principal: `'Agent::"triage"'` or `("Agent", "triage")`.
            action: `"tool.call"`, or in full `'Action::"tool.call"'`.
            resource: Like `principal`.
            context: Texts to bool, int (64 bits), str, list, tuple, set, dict of these.

        Returns:
            `Allow`, `Deny` or `AllowWithConditions`. No request that can be expressed raises (PE2).

        Raises:
            InputError: an entity or a value that cannot be expressed (PE3).

        Cost: microseconds, whatever the size of the set; candidates are found by the heads of the policies.
        """
        return self._native.evaluate(principal, action, resource, context)

    def evaluate_many(
        self, requests: Sequence[PolicyRequest], *, threads: int = THREADS_DEFAULT
    ) -> list[Decision]:
        """Decides a batch under one set, deciding without the GIL.

        Args:
            requests: `(principal, action, resource, context)` each.
            threads: Native threads to use, 1 to 64; few requests use fewer.

        Returns:
            Decisions, in the order of the requests. Those that are equal may be one object: they never change.

        Cost: requests are converted on the calling thread, which holds the GIL for it, and decided meanwhile on the
            others.

        Raises:
            InputError: one of them cannot be expressed; none is decided then.
        """
        return self._native.evaluate_many(list(requests), threads)

    def explain_policy(
        self, principal: Entity, action: str, resource: Entity, context: dict[str, Any] | None = None
    ) -> Explanation:
        """Says why `evaluate_policy` answers as it does. For people: not on the hot path."""
        return Explanation.of(self._native.explain(principal, action, resource, context))

    @property
    def digest(self) -> str:
        """SHA-256 over schema, counters and policies, in hex: equal sets, equal digests."""
        return self._native.digest

    @property
    def warnings(self) -> list[str]:
        """Findings that do not refuse the set, such as a rule that can never apply."""
        return self._native.warnings


def _entity(entity: Mapping[str, Any]) -> dict[str, Any]:
    unknown = set(entity) - {"uid", "attrs", "parents", "tags"}
    if unknown or "uid" not in entity:
        wrong = ", ".join(f"`{name}`" for name in sorted(unknown)) or "no `uid`"
        raise InputError(f"an entity has {wrong}: accepted are `uid`, `attrs`, `parents`, `tags`")
    plain = {
        "uid": _uid(entity["uid"]),
        "attrs": entity.get("attrs", {}),
        "parents": [_uid(parent) for parent in entity.get("parents", ())],
    }
    if "tags" in entity:
        plain["tags"] = entity["tags"]
    return plain


def _uid(uid: Any) -> Mapping[str, str]:
    if isinstance(uid, str):
        kind, quoted, rest = uid.partition('::"')
        if quoted and rest.endswith('"') and "\\" not in rest:
            return {"type": kind, "id": rest[:-1]}
    elif isinstance(uid, tuple) and len(uid) == 2:
        return {"type": uid[0], "id": uid[1]}
    elif isinstance(uid, dict) and set(uid) == {"type", "id"}:
        return uid
    raise InputError(f'`{uid!r:.80}` is not an entity: accepted are `Agent::"triage"`, (type, id)')


def _refuse(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    raise TypeError(f"a `{type(value).__name__}`")
