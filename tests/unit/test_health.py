"""Health: what weakens the runtime is red, what needs a look is yellow (spec O7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import symbi

if TYPE_CHECKING:
    from pathlib import Path


@symbi.agent(isolation="in_process")
async def idle() -> None:
    """Does nothing."""


def settings(**changed: object) -> symbi.Config:
    overrides = {
        "runtime.mode": "development",
        **{name.replace("__", "."): value for name, value in changed.items()},
    }
    return symbi.Config.load(environ={}, overrides=overrides)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("security__audit_enabled", False, "audit"),
        ("security__enforce_policies", False, "policy"),
        ("security__default_sandbox_tier", "degraded", "sandboxes"),
    ],
)
async def test_st1_what_weakens_the_promise_is_red(
    tmp_path: Path, key: str, value: object, part: str
) -> None:
    async with symbi.Runtime.open(settings(**{key: value}), data=tmp_path / "data") as runtime:
        health = await runtime.health_check()
    assert (health.overall_status, health.component_health[part].level) == ("red", "red")


@pytest.mark.asyncio
async def test_a_permit_that_errs_is_not_applied_counted_and_turns_health_yellow(tmp_path: Path) -> None:
    policy = tmp_path / "p.cedar"
    policy.write_text(
        "permit (principal is Host, action, resource);\n"
        'permit (principal is Host, action == Action::"agent.create", resource)\n'
        "when { 9223372036854775807 + context.bytes + 1 > 0 };\n"
    )
    async with symbi.Runtime.open(settings(), data=tmp_path / "data", policy=policy) as runtime:
        assert (await runtime.health_check()).overall_status == "green"
        await runtime.schedule_agent(idle)
        health = await runtime.health_check()
    assert (health.overall_status, health.component_health["policy"].level) == ("yellow", "yellow")


@pytest.mark.asyncio
async def test_each_opening_records_under_which_settings_it_decides(tmp_path: Path) -> None:
    async with symbi.Runtime.open(settings(), data=tmp_path / "data") as runtime:
        digest = runtime.kernel.policy_digest()
    with symbi.AuditLog.open(tmp_path / "data" / "trail", mode="r") as log:
        (opened,) = log.query(event_type="runtime.opened")
    assert opened.details["enforce"] is True
    assert opened.policy == digest


@pytest.mark.asyncio
async def test_what_a_file_needs_said_aloud_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUST_LOG", "debug")
    async with symbi.Runtime.open(data=tmp_path / "data", mode="development"):
        pass
    assert "warning" in capsys.readouterr().err
