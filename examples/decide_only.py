"""Policies without a runtime: one engine, one question, the reason.

Run it anywhere: `python decide_only.py`.
"""

from __future__ import annotations

import symbi

POLICY = """
@id("readers-read")
permit (principal, action == Action::"data.read", resource);

@id("no-secrets")
@message("secret documents are not for agents")
forbid (principal is Agent, action == Action::"data.read", resource)
when { context.labels.contains("secret") };
"""


def main() -> None:
    """Ask twice: once for a plain document, once for a secret one."""
    engine = symbi.PolicyEngine(schema="symbi")
    engine.register_policy(POLICY, name="reading.cedar")
    for labels in ([], ["secret"]):
        context = {"labels": labels, "bytes": 0, "counters": {}}
        request = ('Agent::"ana"', "data.read", 'Document::"note-1"', context)
        decision = engine.evaluate_policy(*request)
        print(labels or "no label", "→", type(decision).__name__, decision.determining)
    print(engine.explain_policy(*request).summary)


if __name__ == "__main__":
    main()
