"""A tamper-evident log of your own, without a runtime: append, verify, break a copy, see the record named.

Run it in an empty directory: `python own_log.py`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import symbi


def main() -> None:
    """Write three records, verify them, flip one bit in a copy."""
    trail = Path("orders")
    with symbi.AuditLog.open(trail, mode="a") as log:
        for number in (1, 2, 3):
            log.append("order.placed", None, {"order": number})
        print("fingerprint, to be kept elsewhere:", log.fingerprint)
    with symbi.AuditLog.open(trail) as log:
        print("records:", log.verify().records)

    copy = Path("orders-copy")
    shutil.copytree(trail, copy)
    segment = copy / "000000000000.jsonl"
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    try:
        symbi.AuditLog.open(copy).verify()
    except symbi.ChainBrokenError as broken:
        print("the copy breaks at record", broken.seq)


if __name__ == "__main__":
    main()
