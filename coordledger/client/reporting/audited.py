"""The report of an audit, for an auditor to sign: what was checked, by which keys, what was not.

Rules of this file:
- It describes; `document` says it as Markdown or HTML. Nothing is judged: the verdicts and who has
  checked a record are the audit's.
- What no audit can see is said, too: a report without that would be read as more than it is.
- Long tables are cut, and say by how much; the commands that show all of it are named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from coordledger.client.reporting.document import Document, Foreign, Section, Table
from coordledger.client.ssh_keys import fingerprint
from coordledger.client.vouches import HERE, NOBODY, SERVER
from coordledger.format import timestamps
from coordledger.format.signing import SSH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from coordledger.client.reporting.document import Cell
    from coordledger.client.reporting.seen import Seen, Span
    from coordledger.client.reports import Audit, Head

_MOST = 1000  # rows of a table

_OF_RECORDS = (
    "Of each record: its signature by the key that the ledger lists for its signer, that its agent"
    " was allowed to do what it says, that it follows from the record before, and that every byte"
    " of its commit is what the record renders to."
)
_OF_CHECKING = (
    "here: the auditor has verified the signature. server: the server's hook says that it has; the"
    " auditor has verified all but the signature. nobody: neither."
)
_OF_IMPORTS = (
    "What another system had is here on the word of who imported it: that one signed these records,"
    " and the MAC is what the importer says of the old one."
)
_OF_GAPS = (
    "Times of more than a day without a record; the server's hook takes none after a pause that is"
    " longer than its coordledger.maxGap, until its owner has looked at its clock."
)
_OF_REPAIRS = (
    "A repair cuts records off, and the records that are left do not say so. What the remote keeps"
    " of them stands under refs/coordledger-cut/, named by the first record that was cut; its owner"
    " can delete that. A reader who had verified them notices."
)
_LIMITS = (
    "Pushes that the server's hook has refused: they leave no record.",
    (
        "Newer records that the remote has not shown: an older state of the same history looks"
        " whole. Heads that others have verified can be compared with this one."
    ),
    (
        "Times are those that the signers have stated; a server's hook admits none that is further"
        " from its clock than the ledger's skew."
    ),
    (
        "A signature by a secret (hmac-sha256) proves nothing to somebody else: whoever can verify"
        " it can make it."
    ),
    "Work that was done without the ledger, and code that came to a branch that is not fenced.",
)


class Circumstances(NamedTuple):
    """What a report says beside what was seen: of which copy, by whom, when (UTC), and with what.

    `oldest` is the first record of the copy; `keys` what the newest state has of each key (agent,
    number): its algorithm and verifier; `trust` what the ledger was compared with, as it was given;
    `cuts` what the remote keeps of records that were cut off (None: it did not say), `notes` what
    the copy, and the server's folder where that is here, have noted of repairs and resets.
    """

    head: Head
    ref: str
    remote: str
    oldest: int
    keys: Mapping[tuple[str, int], tuple[str, str]]
    trust: tuple[str, ...]
    cuts: tuple[str, ...] | None
    notes: tuple[str, ...]
    enforcement: str
    by: str
    at: str
    versions: tuple[str, ...]


def describe(audit: Audit, seen: Seen, told: Circumstances) -> Document:
    """The report. `seen` is of the same records as the `audit`."""
    return Document(
        title=f"Audit of the ledger {told.head.ledger}",
        outcome=_outcome(audit),
        is_good=not audit.problems and not audit.unchecked,
        sections=(
            _subject(audit, seen, told),
            _checked(audit, seen, told),
            _unchecked(audit, seen, told),
            _bad(audit),
            _key_changes(seen),
            _changes(seen),
            _forced(seen),
            _imports(seen),
            _gaps(seen),
            _repairs(told),
            _limits(),
            _signed(told),
        ),
    )


def _outcome(audit: Audit) -> str:
    if audit.problems:
        return f"{len(audit.problems)} bad, and what follows them was not judged."
    if audit.unchecked:
        return f"{audit.unchecked} of {audit.records} records were checked by nobody."
    whose = "" if audit.compared else "; that it is the ledger that is meant was not"
    return f"Every one of {audit.records} records was checked{whose}."


def _subject(audit: Audit, seen: Seen, told: Circumstances) -> Section:
    whole, head = seen.whole, told.head
    period = f"{whole.first_at} to {whole.last_at}" if whole else "no record"
    of = f"{whole.first} to {whole.last}" if whole else "none"
    facts: list[tuple[str, Cell]] = [
        ("Ledger", Foreign(head.ledger)),
        ("Remote", Foreign(told.remote)),
        ("Ref", Foreign(told.ref)),
        ("Head", Foreign(f"record {head.seq}, commit {head.commit}")),
        ("Digest of the head", Foreign(head.digest)),
        ("Records", of),
        ("Period, as their signers have dated them", period),
    ]
    if told.oldest:
        facts.append(("Not in this copy", f"records before {told.oldest}: it is a shallow one"))
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(seen.kinds.items()))
    facts.append(("Records by kind", kinds or "none"))
    if audit.since > told.oldest:
        facts.append(("Asked for", f"records from {audit.since} on, and none before"))
    return Section("What was audited", facts=tuple(facts))


def _checked(audit: Audit, seen: Seen, told: Circumstances) -> Section:
    compared = (
        f"compared with what the auditor trusts: {', '.join(audit.compared)}"
        if audit.compared
        else "compared with nothing that the auditor trusts: anybody may have made it"
    )
    facts: tuple[tuple[str, Cell], ...] = (
        ("Checked here", str(audit.checked.get(HERE, 0))),
        ("Checked by the server's hook", str(audit.checked.get(SERVER, 0))),
        ("Checked by nobody", str(audit.unchecked)),
        ("Beginning", f"the first record was {compared}"),
        *(("Trusted", Foreign(word)) for word in told.trust),
    )
    signers = sorted(seen.keys.items(), key=lambda one: (one[1].first, one[0]))
    rows = (
        (Foreign(f"{agent}/{key}"), *_key(seen, told, agent, key), checked, *_span(span))
        for (agent, key, checked), span in signers
    )
    header = ("Agent/key", "Kind", "Fingerprint", "Checked", "Records", "First", "Last")
    return Section(
        "By which keys",
        (_OF_RECORDS, _OF_CHECKING),
        facts,
        _table(header, rows, "No record was judged."),
    )


def _unchecked(audit: Audit, seen: Seen, told: Circumstances) -> Section:
    rows: list[tuple[Cell, ...]] = []
    for (agent, key, checked), span in sorted(seen.keys.items()):
        if checked == NOBODY:
            alg, _ = _known(seen, told, agent, key)
            why = (
                "nobody has checked the record that enrolled this key"
                if alg == SSH
                else "no secret for this key here, and no vouch of the server's hook"
            )
            rows.append((Foreign(f"{agent}/{key}"), *_span(span), why))
    texts = []
    if audit.checked.get(SERVER):
        texts.append(
            f"{audit.checked[SERVER]} records were checked by the server's hook alone: that is its"
            " word, and no verification by the auditor."
        )
    if told.oldest:
        texts.append(f"Records before {told.oldest} are not in this copy.")
    if audit.since > told.oldest:
        texts.append(f"Records before {audit.since} were not asked for.")
    if not audit.compared:
        texts.append("Whether this is the ledger that is meant: it was compared with nothing.")
    if audit.problems:
        texts.append("What follows a bad record: it has no place in the ledger.")
    header = ("Agent/key", "Records", "First", "Last", "Why")
    none = "Every record that was judged was checked by somebody."
    return Section(
        "What could not be checked, and why", tuple(texts), (), _table(header, rows, none)
    )


def _bad(audit: Audit) -> Section:
    rows = (
        (
            str(one["seq"]),
            Foreign(str(one["commit"])),
            Foreign(str(one["code"])),
            Foreign(str(one["message"])),
        )
        for one in audit.problems
    )
    header = ("Record", "Commit", "Code", "What is wrong")
    return Section("Rejected records", (), (), _table(header, rows, "None."))


def _key_changes(seen: Seen) -> Section:
    rows = (
        (
            str(one.seq),
            one.at,
            one.what,
            Foreign(f"{one.who}/{one.key}"),
            one.alg,
            Foreign(_fingerprint(one.alg, one.verifier)),
            Foreign(one.by),
        )
        for one in seen.key_changes
    )
    header = ("Record", "At", "What", "Agent/key", "Kind", "Fingerprint", "By")
    return Section("Keys: who may sign", (), (), _table(header, rows, "No key has changed."))


def _changes(seen: Seen) -> Section:
    rows = ((str(one.seq), one.at, Foreign(one.what), Foreign(one.by)) for one in seen.changes)
    header = ("Record", "At", "What", "By")
    return Section("Policy and channels", (), (), _table(header, rows, "Nothing has changed."))


def _forced(seen: Seen) -> Section:
    rows = (
        (
            str(one.seq),
            one.at,
            Foreign(one.task),
            Foreign(one.holder) if one.holder else "not known here",
            Foreign(one.by),
            Foreign(one.reason or ""),
        )
        for one in seen.forced
    )
    header = ("Record", "At", "Task", "From", "By", "Reason")
    return Section("Claims that were released by force", (), (), _table(header, rows, "None."))


def _imports(seen: Seen) -> Section:
    rows = (
        (kind, Foreign(source), Foreign(mac), Foreign(by), *_span(span))
        for (kind, source, mac, by), span in sorted(seen.imports.items())
    )
    header = ("Kind", "Source", "Old MAC", "By", "Records", "First", "Last")
    return Section("Imports and archives", (_OF_IMPORTS,), (), _table(header, rows, "None."))


def _gaps(seen: Seen) -> Section:
    gaps = sorted(seen.gaps, key=lambda gap: gap.seq)
    rows = ((gap.begin, gap.end, timestamps.span(gap.length), str(gap.seq)) for gap in gaps)
    texts = [_OF_GAPS]
    if seen.many_gaps > len(gaps):
        texts.append(f"The longest {len(gaps)} of {seen.many_gaps}.")
    if seen.steps_back:
        texts.append(
            f"{seen.steps_back} records are dated before the one before them, by"
            f" {timestamps.span(seen.longest_back)} at most: their signers' clocks differ."
        )
    table = _table(("From", "Until", "Length", "Ended by record"), rows, "None.")
    return Section("Gaps", tuple(texts), (), table)


def _repairs(told: Circumstances) -> Section:
    cuts = [("kept on the remote", Foreign(name)) for name in told.cuts or ()]
    notes = [("noted here", Foreign(line)) for line in told.notes]
    none = "None is known." if told.cuts is not None else "None is known; the remote was not asked."
    table = _table(("Where", "What"), [*cuts, *notes], none)
    return Section("Repairs", (_OF_REPAIRS,), (), table)


def _limits() -> Section:
    return Section("What this audit cannot see", _LIMITS)


def _signed(told: Circumstances) -> Section:
    line = "." * 40
    facts: tuple[tuple[str, Cell], ...] = (
        ("Made by", Foreign(told.by)),
        ("At", told.at),
        ("With", Foreign("; ".join(told.versions))),
        ("The remote's enforcement, as this copy knows it", told.enforcement),
        ("Auditor", line),
        ("Date", line),
        ("Signature", line),
    )
    return Section("Who made this report", facts=facts)


# -- cells


def _table(header: tuple[str, ...], rows: Iterable[tuple[Cell, ...]], none: str) -> Table:
    every = tuple(rows)
    return Table(header, every[:_MOST], none, max(0, len(every) - _MOST))


def _span(span: Span) -> tuple[Cell, ...]:
    first, last = f"{span.first}, {span.first_at}", f"{span.last}, {span.last_at}"
    return str(span.count), first, last


def _known(seen: Seen, told: Circumstances, agent: str, key: int) -> tuple[str, str | None]:
    return seen.brought.get((agent, key)) or told.keys.get((agent, key)) or ("", None)


def _key(seen: Seen, told: Circumstances, agent: str, key: int) -> tuple[Cell, ...]:
    alg, verifier = _known(seen, told, agent, key)
    return alg or "not known here", Foreign(_fingerprint(alg, verifier))


def _fingerprint(alg: str, verifier: str | None) -> str:
    if verifier is None:
        return ""
    return fingerprint(verifier) if alg == SSH else verifier
