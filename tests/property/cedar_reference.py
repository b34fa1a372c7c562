"""Cedar as its documentation describes it, in plain Python: slow, without an index, written apart from the engine.

The pages "Policy syntax", "Operators and functions" and "Authorization" of docs.cedarpolicy.com, for the parts that the
generator below uses. A policy is a tree of tuples; `text` writes it as Cedar, `evaluate` says what it means. Every policy is evaluated
for every request: a policy is satisfied when its scope and its conditions are true; one that errs is not satisfied and is
reported; a satisfied forbid denies, otherwise a satisfied permit allows, otherwise it is denied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

LONG_MIN, LONG_MAX = -(2**63), 2**63 - 1
Node = tuple[Any, ...]


class Erring(Exception):  # noqa: N818 - Cedar's word is "error": a policy that errs
    """The evaluation of a policy errs."""


@dataclass(frozen=True, slots=True)
class Uid:
    """The name of an entity."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f'{self.kind}::"{self.id}"'


@dataclass(slots=True)
class Facts:
    """What is known of an entity: attributes, tags, direct parents."""

    attrs: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    parents: list[Uid] = field(default_factory=list)


@dataclass(slots=True)
class World:
    """Entities and one request."""

    entities: dict[Uid, Facts]
    request: dict[str, Any]

    def within(self, one: Uid, other: Uid) -> bool:
        """`one in other`: itself, or through any number of parents."""
        seen, following = set[Uid](), [one]
        while following:
            now = following.pop()
            if now == other:
                return True
            if now not in seen:
                seen.add(now)
                following += self.entities[now].parents if now in self.entities else []
        return False


# Writing


def text(node: Any) -> str:  # noqa: PLR0911, PLR0912 - one case for each thing in the language
    """A tree as Cedar."""
    if isinstance(node, bool):
        return "true" if node else "false"
    if isinstance(node, int):
        return str(node) if node >= 0 else f"({node})"
    if isinstance(node, str):
        return '"' + node.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(node, Uid):
        return str(node)
    match node:
        case ("var", name):
            return name
        case ("get", of, name):
            return f"{text(of)}.{name}"
        case ("has", of, name):
            return f"({text(of)} has {name})"
        case ("not", of):
            return f"(!{text(of)})"
        case ("negate", of):
            return f"(-({text(of)}))"
        case ("if", test, then, other):
            return f"(if {text(test)} then {text(then)} else {text(other)})"
        case ("like", of, pattern):
            return f"({text(of)} like {pattern_text(pattern)})"
        case ("is", of, kind):
            return f"({text(of)} is {kind})"
        case ("is in", of, kind, group):
            return f"({text(of)} is {kind} in {text(group)})"
        case ("set", *members):
            return f"[{', '.join(map(text, members))}]"
        case ("record", pairs):
            return "{" + ", ".join(f'"{name}": {text(value)}' for name, value in pairs) + "}"
        case ("call", function, of, *arguments):
            return f"{text(of)}.{function}({', '.join(map(text, arguments))})"
        case ("ip", argument):
            return f"ip({text(argument)})"
        case (operator, left, right):
            return f"({text(left)} {operator} {text(right)})"
    raise AssertionError(node)


def pattern_text(pattern: tuple[str | None, ...]) -> str:
    """A pattern of `like`: None is the wildcard."""
    written = ("*" if part is None else part.replace("\\", "\\\\").replace("*", "\\*") for part in pattern)
    return '"' + "".join(written) + '"'


# Evaluating


def evaluate(node: Any, world: World) -> Any:  # noqa: PLR0911, PLR0912 - the same
    """What a tree means. Raises `Erring` where Cedar reports an error."""
    if isinstance(node, (bool, int, str, Uid)):
        return node
    match node:
        case ("var", name):
            return world.request[name]
        case ("get", of, name):
            return attributes(evaluate(of, world), world, name)
        case ("has", of, name):
            return has(evaluate(of, world), world, name)
        case ("not", of):
            return not boolean(evaluate(of, world))
        case ("negate", of):
            return bounded(-whole(evaluate(of, world)))
        case ("if", test, then, other):
            return evaluate(then if boolean(evaluate(test, world)) else other, world)
        case ("&&", left, right):
            return boolean(evaluate(left, world)) and boolean(evaluate(right, world))
        case ("||", left, right):
            return boolean(evaluate(left, world)) or boolean(evaluate(right, world))
        case ("like", of, pattern):
            expression = "".join(".*" if part is None else re.escape(part) for part in pattern)
            return re.fullmatch(expression, string(evaluate(of, world)), re.DOTALL) is not None
        case ("is", of, kind):
            return entity(evaluate(of, world)).kind == kind
        case ("is in", of, kind, group):
            one = entity(evaluate(of, world))
            return one.kind == kind and within_any(one, evaluate(group, world), world)
        case ("set", *members):
            return ("set", unique([evaluate(member, world) for member in members]))
        case ("record", pairs):
            return {name: evaluate(value, world) for name, value in pairs}
        case ("ip", argument):
            return ("ip", address(string(evaluate(argument, world))))
        case ("call", function, of, *arguments):
            values = [evaluate(one, world) for one in (of, *arguments)]
            return call(function, values, world)
        case (operator, left, right):
            return binary(operator, evaluate(left, world), evaluate(right, world), world)
    raise AssertionError(node)


def binary(operator: str, left: Any, right: Any, world: World) -> Any:  # noqa: PLR0911 - the same
    """Operators that evaluate both sides."""
    match operator:
        case "==":
            return equal(left, right)
        case "!=":
            return not equal(left, right)
        case "<":
            return whole(left) < whole(right)
        case "<=":
            return whole(left) <= whole(right)
        case ">":
            return whole(left) > whole(right)
        case ">=":
            return whole(left) >= whole(right)
        case "+":
            return bounded(whole(left) + whole(right))
        case "-":
            return bounded(whole(left) - whole(right))
        case "*":
            return bounded(whole(left) * whole(right))
        case "in":
            return within_any(entity(left), right, world)
    raise AssertionError(operator)


def call(function: str, values: list[Any], world: World) -> Any:  # noqa: PLR0911 - the same
    """Methods."""
    of, *rest = values
    match function:
        case "contains":
            return any(equal(one, rest[0]) for one in members(of))
        case "containsAll":
            return all(any(equal(one, other) for one in members(of)) for other in members(rest[0]))
        case "containsAny":
            return any(any(equal(one, other) for one in members(of)) for other in members(rest[0]))
        case "isEmpty":
            return not members(of)
        case "hasTag" | "getTag":
            one, name = entity(of), string(rest[0])
            tags = world.entities[one].tags if one in world.entities else None
            if function == "hasTag":
                return tags is not None and name in tags
            if tags is None or name not in tags:
                raise Erring
            return tags[name]
        case "isIpv4":
            return internet(of).version == 4
        case "isLoopback":
            return loopback(internet(of))
        case "isInRange":
            one, other = internet(of), internet(rest[0])
            return one.version == other.version and one.subnet_of(other)
    raise AssertionError(function)


def loopback(network: Any) -> bool:
    """Of a range, all of it."""
    whole_range = ip_network("127.0.0.0/8" if network.version == 4 else "::1/128")
    return bool(network.subnet_of(whole_range))


def address(written: str) -> Any:
    """Cedar takes no zones, no mapped spelling, no prefixes with leading zeros."""
    host, slash, prefix = written.partition("/")
    if slash and (not prefix.isdecimal() or (len(prefix) > 1 and prefix[0] == "0")):
        raise Erring
    try:
        number = ip_address(host)
        return ip_network(f"{number}/{prefix if slash else number.max_prefixlen}", strict=False)
    except ValueError:
        raise Erring from None


def internet(value: Any) -> Any:
    """The address of an `ip` value."""
    if isinstance(value, tuple) and value[0] == "ip":
        return value[1]
    raise Erring


def equal(left: Any, right: Any) -> bool:
    """Equality of any two values; values of different kinds are not equal."""
    if isinstance(left, bool) or isinstance(right, bool):
        return isinstance(left, bool) and isinstance(right, bool) and left == right
    if is_set(left) and is_set(right):
        return all(any(equal(a, b) for b in right[1]) for a in left[1]) and all(
            any(equal(a, b) for a in left[1]) for b in right[1]
        )
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[name], right[name]) for name in left)
    return type(left) is type(right) and bool(left == right)


def unique(values: list[Any]) -> list[Any]:
    """Sets have no repetitions."""
    kept: list[Any] = []
    for value in values:
        if not any(equal(value, other) for other in kept):
            kept.append(value)
    return kept


def is_set(value: Any) -> bool:
    """Whether it is a set."""
    return isinstance(value, tuple) and value[0] == "set"


def members(value: Any) -> list[Any]:
    """Of a set."""
    if not is_set(value):
        raise Erring
    return list(value[1])


def boolean(value: Any) -> bool:
    """A boolean, or an error."""
    if not isinstance(value, bool):
        raise Erring
    return value


def whole(value: Any) -> int:
    """A long, or an error."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Erring
    return value


def string(value: Any) -> str:
    """A string, or an error."""
    if not isinstance(value, str):
        raise Erring
    return value


def entity(value: Any) -> Uid:
    """An entity, or an error."""
    if not isinstance(value, Uid):
        raise Erring
    return value


def bounded(number: int) -> int:
    """64 bits, or an error."""
    if not LONG_MIN <= number <= LONG_MAX:
        raise Erring
    return number


def attributes(of: Any, world: World, name: str) -> Any:
    """Of a record or an entity; what is not there errs."""
    if isinstance(of, dict):
        found = of
    elif isinstance(of, Uid):
        if of not in world.entities:
            raise Erring
        found = world.entities[of].attrs
    else:
        raise Erring
    if name not in found:
        raise Erring
    return found[name]


def has(of: Any, world: World, name: str) -> bool:
    """Of an entity that nobody knows it is false."""
    if isinstance(of, dict):
        return name in of
    one = entity(of)
    return one in world.entities and name in world.entities[one].attrs


def within_any(one: Uid, of: Any, world: World) -> bool:
    """`in` of an entity, or of any of a set of entities."""
    if isinstance(of, Uid):
        return world.within(one, of)
    others = [entity(member) for member in members(of)]  # one that is no entity errs, wherever it stands
    return any(world.within(one, other) for other in others)


# Policies


@dataclass(frozen=True, slots=True)
class Scope:
    """`==`, `in`, `is`, `is in`, or nothing, of principal or resource."""

    operator: str
    uid: Uid | None = None
    kind: str = ""

    def text(self, name: str) -> str:
        """As Cedar."""
        match self.operator:
            case "":
                return name
            case "is":
                return f"{name} is {self.kind}"
            case "is in":
                return f"{name} is {self.kind} in {self.uid}"
            case operator:
                return f"{name} {operator} {self.uid}"

    def matches(self, one: Uid, world: World) -> bool:
        """Whether it holds of an entity."""
        match self.operator:
            case "":
                return True
            case "==":
                return one == self.uid
            case "is":
                return one.kind == self.kind
            case operator:
                assert self.uid is not None
                return (operator == "in" or one.kind == self.kind) and world.within(one, self.uid)


@dataclass(frozen=True, slots=True)
class Policy:
    """A static policy. `actions`: none for any; `conditions`: `when` or `unless`, and a tree."""

    id: str
    effect: str
    principal: Scope
    actions: tuple[Uid, ...]
    resource: Scope
    conditions: tuple[tuple[str, Any], ...]

    def text(self) -> str:
        """As Cedar."""
        action = "action"
        if len(self.actions) == 1:
            action = f"action == {self.actions[0]}"
        elif self.actions:
            action = f"action in [{', '.join(map(str, self.actions))}]"
        head = f"{self.principal.text('principal')}, {action}, {self.resource.text('resource')}"
        body = "".join(f" {word} {{ {text(tree)} }}" for word, tree in self.conditions)
        return f'@id("{self.id}") {self.effect} ({head}){body};'

    def satisfied(self, world: World) -> bool:
        """Raises `Erring`."""
        action = world.request["action"]
        if len(self.actions) == 1:
            fits = action == self.actions[0]
        else:
            fits = not self.actions or any(world.within(action, one) for one in self.actions)
        if not (
            fits
            and self.principal.matches(world.request["principal"], world)
            and self.resource.matches(world.request["resource"], world)
        ):
            return False
        return all(boolean(evaluate(tree, world)) == (word == "when") for word, tree in self.conditions)


def authorize(policies: list[Policy], world: World) -> tuple[bool, set[str], set[str]]:
    """Whether it is allowed, which policies determined that, and which erred: Cedar's own semantics."""
    permits, forbids, erring = set[str](), set[str](), set[str]()
    for policy in policies:
        try:
            if policy.satisfied(world):
                (permits if policy.effect == "permit" else forbids).add(policy.id)
        except Erring:
            erring.add(policy.id)
    if forbids:
        return False, forbids, erring
    return bool(permits), permits, erring
