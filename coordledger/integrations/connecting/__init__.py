"""Connecting harnesses: what `coordledger setup` writes into their settings, and takes out again.

Rules of this package: what is the harness's or the user's stays byte for byte as it is; what was
written is taken out without a trace, and known by what it says, not by a list of what was done:
another clone, or another version, can take it out too. `table` says what each harness is given,
`json_text` and `marked` change texts, `plan` puts both together; these compute. `files` reads and
writes, and `findings` looks at what keeps a harness from running its hooks.
"""
