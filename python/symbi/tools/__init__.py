"""Tools: Python functions that agents may call, through the monitor.

Not here: tools of other servers. Importing this loads no native code.
"""

from __future__ import annotations

from symbi.tools.concerning import concerns
from symbi.tools.definition import ToolDefinition, tool
from symbi.tools.guarding import guard
from symbi.tools.spending import spent

__all__ = ["ToolDefinition", "concerns", "guard", "spent", "tool"]
