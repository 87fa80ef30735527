"""A report: one page that shows a ledger to people.

Rules: `page` puts data and templates together into one text that loads nothing from elsewhere.
No module here judges a record: each verdict is the copy's (`Replica.verdict_of`, `Vouches`).
"""
