"""From nothing to a working ledger: founding, joining, installing hooks, checking."""
