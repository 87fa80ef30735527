"""Tasks, messages and facts from other systems.

A reader (`gptme`, `beads`, `github`, `exported`) turns a file into rows, and knows no ledger;
`fitting` says what each row would be here; `landing` writes that. Nothing here is needed by a
claim, and nothing of it is imported by one.
"""
