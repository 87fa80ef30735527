"""Pages for people: the report of a ledger, its timeline as a picture and as a chart, and the
report of an audit.

Rules: `gathering` reads what a report says out of a verified copy, `leases` computes who held what
when, `rendering` makes it harmless and puts it into a page, whose frame is `page`'s; `drawing`
(SVG) and `gantt` (Mermaid) draw the timeline alone, `serving` shows the page on loopback. Of an
audit `seen` collects, `audited` describes, and `document` writes. No module here judges a record:
each verdict is the copy's (`Replica.verdict_of`, `Vouches`).
"""
