"""What connects a ledger with other programs: commands under a lease, agents' harnesses.

Rules: only `cli` and the program's entry import this package; what a claim or a hook needs is never
here.
"""
