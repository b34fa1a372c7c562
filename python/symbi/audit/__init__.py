"""The trail: an application's own log, and reading, querying and verifying any.

Not here: the runtime's log. Only its kernel writes that one; this module reads it.
"""

from symbi.audit.event import AuditEvent
from symbi.audit.export import export
from symbi.audit.keys import key_path, rotate, sign_at_rest
from symbi.audit.log import AuditLog, AuditTail, Verification
from symbi.audit.proof import Checkpoint, Proof, Proven, check_consistency

__all__ = [
    "AuditEvent",
    "AuditLog",
    "AuditTail",
    "Checkpoint",
    "Proof",
    "Proven",
    "Verification",
    "check_consistency",
    "export",
    "key_path",
    "rotate",
    "sign_at_rest",
]
