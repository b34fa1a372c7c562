"""The trail: an application's own log, and reading, querying and verifying any.

Not here: the runtime's log. Only its kernel writes that one; this module reads it.
"""

from symbi.audit.event import AuditEvent
from symbi.audit.export import export
from symbi.audit.keys import key_path, rotate, sign_at_rest
from symbi.audit.log import AuditLog, AuditTail
from symbi.audit.own_persons import Forgotten, persons_path
from symbi.audit.proof import Checkpoint, Proof, Proven, check_consistency
from symbi.audit.query import IndexCheck, IndexState, Page
from symbi.audit.retention import Hold, Pruned
from symbi.audit.stream import AuditStream, Gap
from symbi.audit.verification import Verification

__all__ = [
    "AuditEvent",
    "AuditLog",
    "AuditStream",
    "AuditTail",
    "Checkpoint",
    "Forgotten",
    "Gap",
    "Hold",
    "IndexCheck",
    "IndexState",
    "Page",
    "Proof",
    "Proven",
    "Pruned",
    "Verification",
    "check_consistency",
    "export",
    "key_path",
    "persons_path",
    "rotate",
    "sign_at_rest",
]
