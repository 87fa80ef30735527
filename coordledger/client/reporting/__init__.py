"""A report: one page that shows a ledger to people; and its timeline as a picture, and as a chart.

Rules: `gathering` reads what it says out of a verified copy, `leases` computes who held what when,
`rendering` makes it harmless and puts it into a page, whose frame is `page`'s; `drawing` (SVG) and
`gantt` (Mermaid) draw the timeline alone, `serving` shows the page on loopback. No module here
judges a record: each verdict is the copy's (`Replica.verdict_of`, `Vouches`).
"""
