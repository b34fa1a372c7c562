"""The configuration: every setting typed, checked, and with the place that said so.

    config = Config.load("/etc/symbi/config.toml", overrides={"runtime.mode": "development"})
    config.security.default_sandbox_tier      # "gvisor"
    config.origins["security.crypto_provider"]  # Origin(kind="environment", place="SYMBI_CRYPTO_PROVIDER")

`settings` is the table of all that can be set; docs/configuration.md is made from it. Decision:
docs/adr/0050.
Not here: reading a setting. Each part is given its values by the runtime; none looks into the environment
itself.
"""

from __future__ import annotations

from symbi.config.log import configure_logging
from symbi.config.model import (
    AuditSettings,
    Config,
    LogSettings,
    PolicySettings,
    RuntimeSettings,
    SchedulerSettings,
    SecuritySettings,
)
from symbi.config.settings import SETTINGS, Setting
from symbi.config.sources import Origin
from symbi.config.tenants import TenantSettings

__all__ = [
    "SETTINGS",
    "AuditSettings",
    "Config",
    "LogSettings",
    "Origin",
    "PolicySettings",
    "RuntimeSettings",
    "SchedulerSettings",
    "SecuritySettings",
    "Setting",
    "TenantSettings",
    "configure_logging",
]
