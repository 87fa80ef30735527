"""What coordledger costs on this machine: `coordledger bench`.

Rules of these files:
- Everything runs on this machine, in one run, in turn (A B C, A B C, …), so that a machine
  whose speed drifts slows all of it. Medians and p95 are shown, and ratios to what people
  would do without coordledger. Nothing is asserted.
- What is compared with is meant to be good: see `naive`.
- A variant that this machine cannot run is left out, with the reason.
- No other command pays for these modules: they are imported when `bench` runs;
  what stands here is what its help needs.
"""

from __future__ import annotations

SUITES = (
    "write",
    "http",
    "contention",
    "compare",
    "batch",
    "pages",
    "scale",
    "ledgers",
    "keys",
    "tasks",
    "fence",
    "follow",
    "parts",
)
DEFAULT = ("write", "contention", "batch")
TITLES = {  # of the columns, for people; docs/json.md tells what each means
    "what": "",
    "median_ms": "MEDIAN ms",
    "p95_ms": "P95 ms",
    "of_floor": "x FLOOR",
    "alone_ms": "ALONE ms",
    "records_per_s": "RECORDS/s",
    "p50_ms": "P50 ms",
    "max_ms": "MAX ms",
    "slowest_to_fastest": "SLOWEST:FASTEST",
    "cpu_ms": "CPU ms",
    "server_ms": "SERVER ms",
    "cpu_per_record_ms": "CPU/RECORD ms",
    "server_per_record_ms": "SERVER/RECORD ms",
    "of_naive": "x NAIVE",
    "pushes": "PUSHES",
    "record_ms": "RECORD ms",
    "faster": "x FASTER",
    "neighbour_ms": "NEIGHBOUR ms",
    "bytes_per_record": "BYTES",
    "join_ms": "JOIN ms",
    "shallow_ms": "DEPTH 1 ms",
    "audit_per_s": "AUDIT/s",
    "claim_ms": "CLAIM ms",
    "claim_cpu_ms": "CPU ms",
    "hook_ms": "HOOK ms",
    "hook_cpu_ms": "CPU ms",
    "next_ms": "NEXT ms",
}
