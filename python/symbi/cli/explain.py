"""`symbi explain`: why a decision fell as it did, or how a request would be decided.

It reads the trail and the policies, and needs no running runtime. A refusal holds its whole request, so it is decided
again under the policies that were in force: rule, place, clause with its values, and the single change that would
allow it. Of what was allowed the record names the rules; they are shown with their places.
Not here: deciding (the policy core), reading records (`symbi.audit`).

Invariants
- EX1 where the policies at hand are not those of the record, that is said before anything is explained by them.
- EX3 a request is explained by the core that decides; what it leaves out is filled by `symbi.policy.requests`.
- EX2 values are shown to who can read the trail, and carry the labels of the request, which are shown too.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symbi.cli import exits, frame, output, values

if TYPE_CHECKING:
    import argparse

    from symbi.audit import AuditEvent, AuditLog
    from symbi.policy.recorded import RecordedSet

__all__ = ["register"]

_REFUSED = ("operation.denied", "approval.requested")
_DECIDED = ("operation", "operation.intent", *_REFUSED, "operation.repeated", "operation.replayed")


def register(subparsers: frame.Subparsers) -> None:
    """Adds `symbi explain`."""
    parser = frame.add_command(
        subparsers,
        "explain",
        summary="why a decision fell as it did: rule, values, what would allow it",
        description=(
            "Reads the trail and the policies that were in force; no runtime is needed.\n"
            "With --principal, --action and --resource, or --request, it explains how that would be decided."
        ),
        example=(
            "symbi explain 0b6e7c1e-5a54-4c0e-9f4e-2f1f0f6a9d11\n"
            "symbi explain 42 --json\n"
            "symbi explain --principal 'Agent::\"ana\"' --action tool.call --resource 'Tool::\"pager.send\"'"
            " --policy page.cedar"
        ),
        run=_run,
    )
    parser.add_argument(
        "decision", nargs="?", metavar="DECISION", help="a decision id, an operation id, or a record's number"
    )
    parser.add_argument("--principal", metavar="ENTITY", help='who asks, such as `Agent::"ana"`')
    parser.add_argument("--action", metavar="NAME", help="for what, such as tool.call")
    parser.add_argument("--resource", metavar="ENTITY", help="on what")
    parser.add_argument("--context", default="{}", metavar="JSON", help="what the context holds besides")
    parser.add_argument("--call", default=None, metavar="JSON", help="declared attributes of a tool call")
    parser.add_argument(
        "--entities", type=Path, default=None, metavar="FILE", help="JSON: [{uid, attrs, parents, tags}]"
    )
    parser.add_argument(
        "--request", default=None, metavar="JSON|@FILE", help="the whole request, as a record holds it"
    )
    parser.add_argument(
        "--policy",
        type=Path,
        nargs="+",
        action="extend",
        default=None,
        metavar="PATH",
        help="under these policies",
    )
    parser.add_argument("--trail", type=Path, default=None, metavar="DIR", help="a trail elsewhere")


def _run(options: argparse.Namespace) -> int:
    from symbi.audit import AuditLog
    from symbi.errors import InputError
    from symbi.policy.recorded import RecordedSet

    config = frame.load_config(options)
    if options.decision is None:
        return _explain_request(options, list(config.policy.paths))
    trail = options.trail or config.audit.storage or options.data / "trail"
    if not trail.is_dir():
        raise InputError(f"there is no trail in `{trail}`: name its directory with --data or --trail")
    event = _find(AuditLog.open(trail), options.decision)
    digest = event.policy or ""
    if options.policy is not None:
        policies = RecordedSet.named(options.policy, digest)
    else:
        policies = RecordedSet.in_force(options.data, digest, list(config.policy.paths) or None)
    told = _tell(options.data, event, policies)
    if options.json:
        output.print_json(told)
    else:
        _print(told)
    return exits.DONE


def _explain_request(options: argparse.Namespace, configured: list[Path]) -> int:
    """EX3: how a request would be decided, under the policies that are named, configured or built in."""
    from symbi.errors import InputError
    from symbi.policy.recorded import RecordedSet
    from symbi.policy.requests import entity_of, request_of

    named = (options.principal, options.action, options.resource)
    if options.request is not None:
        request = _json(options.request, "--request")
    elif all(named):
        known = []
        if options.entities is not None:
            tables = _json(f"@{options.entities}", "--entities")
            if not isinstance(tables, list):
                raise InputError(f"`{options.entities}` holds no list of entities")
            known = [entity_of(table, str(options.entities)) for table in tables]
        call = None if options.call is None else _json(options.call, "--call")
        request = request_of(
            named, _json(options.context, "--context"), dict(known), call=call, place="the request"
        )
    else:
        raise InputError("name a decision, or give --principal, --action and --resource, or --request")
    paths = options.policy if options.policy is not None else configured
    policies = (
        RecordedSet.named(paths, "") if paths else RecordedSet.of(None, "the built-in `secure-default`", "")
    )
    misfit, explanation = policies.explain_given(request)
    told = {
        "request": request,
        "decision": explanation.decision,
        "misfit": misfit,
        "policy": {"digest": policies.digest, "origin": policies.origin},
        "explanation": asdict(explanation),
    }
    if options.json:
        output.print_json(told)
    else:
        style = {"deny": "red", "allow": "green"}.get(explanation.decision, "yellow")
        asked = [request["principal"], request["action"], request["resource"]]
        words = [one if isinstance(one, str) else f'{one["type"]}::"{one["id"]}"' for one in asked]
        lines = [f"  policies: {policies.origin}", *_why(told["explanation"])]
        if misfit is not None:
            output.warn(f"the request does not fit the schema: {misfit}")
        sys.stdout.write(f"{output.paint(explanation.decision, style)}: {output.clean(' '.join(words))}\n")
        sys.stdout.write("".join(f"{output.clean(line)}\n" for line in lines))
    return exits.DONE


def _json(given: str, option: str) -> Any:
    """JSON, or with `@` the file that holds it."""
    from symbi.errors import InputError

    text = values.read_text(Path(given[1:])) if given.startswith("@") else given
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"`{option}` is not JSON: {error}") from None
    if option != "--entities" and not isinstance(value, dict):
        raise InputError(f"`{option}` is a JSON object")
    return value


def _find(log: AuditLog, wanted: str) -> AuditEvent:
    """The record of a decision, by its id, its operation's, or its number."""
    from symbi.errors import InputError

    number = values.record(wanted)
    if number is not None:
        event = next(iter(log.tail(number)), None)
        if event is None or event.seq != number:
            raise InputError(f"the trail has no record {wanted}")
        if event.event_type not in _DECIDED:
            raise InputError(f"record {wanted} is `{event.event_type}`: nothing was decided in it")
        return event
    for event in log.query(decision_id=wanted):
        if event.event_type in _REFUSED:
            return event
    decided = [event for event in _operations(log, wanted) if event.event_type in _DECIDED]
    if not decided:
        raise InputError(
            f"the trail has no decision `{wanted}`; `symbi audit query --decision deny` lists refusals"
        )
    return decided[0]


def _operations(log: AuditLog, wanted: str) -> list[AuditEvent]:
    from symbi.errors import InputError

    try:
        return list(log.query(op=wanted))
    except InputError:
        raise InputError(f"`{wanted}` is no decision id, operation id or record number") from None


def _request(data: Path, details: Any) -> dict[str, Any] | str | None:
    """The request that was refused. Its attributes may be a person's, so they are sealed: EX2 is the keys' file mode.

    Returns:
        The request; or why it cannot be shown; or None where none was recorded.
    """
    from symbi.errors import CryptoError
    from symbi.policy.recorded import open_request

    plain = details.get("request")
    if isinstance(plain, dict):
        return plain
    sealed = details.get("request_sealed")
    if not isinstance(sealed, str):
        return None
    try:
        return open_request(data, sealed)
    except CryptoError as error:
        return f"its request is sealed, and cannot be shown: {error}"


def _tell(data: Path, event: AuditEvent, policies: RecordedSet) -> dict[str, Any]:
    """Everything that is to be said, as one JSON object."""
    details = event.details
    rules = [str(rule) for rule in details.get("rules", [])]
    told: dict[str, Any] = {
        "record": event.seq,
        "time": event.timestamp.isoformat(),
        "decision_id": details.get("decision_id"),
        "operation": event.op,
        "decision": event.decision,
        "code": details.get("code"),
        "reason": details.get("reason"),
        "message": details.get("message"),
        "principal": details.get("principal"),
        "action": details.get("action"),
        "resource": details.get("resource"),
        "agent_id": event.agent_id,
        "labels": list(event.labels),
        "counters": details.get("counters") or {},
        "policy": {
            "digest": event.policy,
            "explained_by": policies.digest,
            "origin": policies.origin,
            "same": policies.same,
        },
        "rules": [],
        "remark": None,
        "explanation": None,
    }
    told["rules"] = [asdict(rule) for rule in policies.places(rules)]
    request = _request(data, details)
    if isinstance(request, str):
        told["remark"] = request
    elif request is not None:
        told["counters"] = request.get("context", {}).get("counters") or {}
        if told["action"] == "tool.call" and "attrs" not in request.get("resource", {}):
            told["remark"] = (
                "no such tool was registered in that runtime; what is absent looks forbidden to agents"
            )
        told["explanation"] = asdict(policies.explain(request))
    return told


def _print(told: dict[str, Any]) -> None:
    style = {"deny": "red", "allow": "green"}.get(told["decision"] or "", "yellow")
    asked = output.clean(f"{told['principal']} {told['action']} {told['resource']}")
    head = f"{output.paint(output.clean(told['decision']), style)}: {asked}"
    lines = [head, f"  record {told['record']} at {told['time']}"]
    if told["message"]:
        lines.append(f'  the agent was told: {told["code"]}, "{told["message"]}"')
    if told["labels"]:
        lines.append(f"  labels of what it carried: {', '.join(told['labels'])}")
    for name, value in told["counters"].items():
        lines.append(f"  counter {name}: {value}")
    policy = told["policy"]
    lines.append(f"  policies: {policy['origin']}")
    if not policy["same"]:
        output.warn(
            f"these policies ({policy['explained_by'][:12]}) are not those that were in force"
            f" ({str(policy['digest'])[:12]}): what follows is how they would decide today"
        )
    if told["remark"]:
        lines.append(f"  {told['remark']}")
    why = told["explanation"]
    if why is not None:
        lines += _why(why)
    elif told["rules"]:
        lines += [f"  rule {_place(rule)}" for rule in told["rules"]]
    elif told["reason"] == "no_permit":
        scope = f'principal == Agent::"NAME", action == Action::"{told["action"]}", resource == {told["resource"]}'
        lines += ["  why: no rule of these policies permits it", f"  to allow it: permit ({scope});"]
    else:
        lines.append(f"  no rule was asked: {told['code'] or 'it was decided before any policy'}")
    sys.stdout.write("\n".join(output.clean(line) if line is not head else line for line in lines) + "\n")


def _why(why: dict[str, Any]) -> list[str]:
    lines = [f"  why: {why['summary']}"]
    if why["rule"] is not None:
        lines.append(f"  rule `{why['rule']}` at {why['source']}:{why['line']}")
    if why["clause"] is not None:
        lines.append(f"  clause: {why['clause']}")
    lines += [f"    {expression} = {value}" for expression, value in why["values"]]
    for failing in why["failing"][1:]:
        lines.append(
            f"  and: {failing['clause']}   (rule `{failing['rule']}` at {failing['source']}:{failing['line']})"
        )
        lines += [f"    {expression} = {value}" for expression, value in failing["values"]]
    if why["decision"] != "deny":
        return lines
    lines.append(f"  to allow it: {why['change_that_would_allow'] or 'no single change would'}")
    if why["single_change"] is not None:
        change = why["single_change"]
        of = "what it is in, " if change["kind"] == "membership" else ""
        lines.append(f"    for one: {of}{change['what']} = {json.dumps(change['after'], ensure_ascii=False)}")
    return lines


def _place(rule: dict[str, Any]) -> str:
    if rule["source"] is None:
        return f"`{rule['id']}`, which these policies do not have"
    return f"`{rule['id']}` ({rule['effect']}) at {rule['source']}:{rule['line']}"
