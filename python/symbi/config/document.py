"""The table of settings as a person reads it: `docs/configuration.md` and `symbi config show`.

Invariants
- CD1 no secret is shown, only that it is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from symbi.config.settings import OTHER_VARIABLES, SETTINGS

if TYPE_CHECKING:
    from symbi.config.settings import Setting

__all__ = ["show", "tables"]


def show(value: object) -> str:
    """A value as it would be written in a file; a path and a list in plain words."""
    if value is None or value == ():
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)
    return str(value)


def _default(setting: Setting) -> str:
    if setting.default_text:
        return setting.default_text
    value = setting.default
    return "" if value is None else f'"{value}"' if isinstance(value, str) else show(value)


def _row(setting: Setting) -> str:
    key = f"`{setting.key}`" if setting.in_file else ""
    variables = ", ".join(f"`{name}`" for name in setting.variables)
    doc = setting.doc if setting.built else f"{setting.doc} *Not in this version.*"
    cells = (key, variables, setting.kind.accepted, _default(setting), doc)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def tables() -> str:
    """The two tables of `docs/configuration.md`, in Markdown."""
    head = "| key | variable | accepted | default | what it does |\n|---|---|---|---|---|"
    rows = "\n".join(_row(setting) for setting in SETTINGS)
    others = "\n".join(f"| `{name}` | {doc} |" for name, doc in OTHER_VARIABLES.items())
    others_head = "| variable | what it is for |\n|---|---|"
    return f"{head}\n{rows}\n\nVariables that are no settings:\n\n{others_head}\n{others}\n"
