"""The ledger format (docs/format.md) as pure functions: no I/O, no clock, no environment."""
