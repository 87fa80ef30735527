"""The ledger format (docs/format.md) as pure functions: no I/O, no clock, no environment.

From the bottom: values (`canonical`, `names`, `timestamps`); what a field holds, who signs,
what the state is (`fields`, `signing`, `state`); the kinds of record (`rules`); a record of
any kind (`records`); its commit (`commit`); and the verification of many (`chain`). Section 13
of the page says which section is where.
"""
