"""Commands about code that has landed: blame-claim, prove, verify-proof.

Rules: who landed it is shown with who has checked that; nothing is written to the ledger.
A proof that was compared with nothing that its reader trusts says so: anybody can make a ledger.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from coordledger.errors import error

from . import params
from .common import command, root
from .output import safe, task_name, when

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from coordledger.client.reports import Authority, LandRecord, Proof
    from coordledger.format.signing import Secret

    from .common import App
    from .output import Screen


trust_option = click.option(
    "--trust",
    type=params.TEXT,
    multiple=True,
    metavar="KNOWN",
    help="The owner's SSH key (a line or a file), the ledger's id, what `coordledger head` prints.",
)


@command("blame-claim", parent=root, example="coordledger blame-claim HEAD")
@click.argument("commit", type=params.TEXT)
def blame_claim(app: App, commit: str) -> None:
    """Under whose claim a commit came to a fenced ref.

    COMMIT is whatever git takes for one: an id, a branch, HEAD~3.
    """
    with app.ledger() as ledger:
        found = ledger.blame(commit)
    app.screen.value_of(found)
    for one in found.landings:
        _show(app.screen, one)
    if found.unseen:
        app.screen.warn(
            f"{found.unseen} older land records name commits that are not in this clone, and may"
            " have brought it"
        )
    app.screen.footer(one.checked for one in found.landings)


def _show(screen: Screen, one: LandRecord) -> None:
    doubt = screen.doubt(one.verdict, one.checked)
    screen.line(f"{safe(one.ref)}  {moved(one.old, one.new)}{doubt}")
    screen.fields(
        ("  by", safe(f"{one.agent}/{one.session}")),
        ("  task", f"{task_name(one.task)}, epoch {one.epoch}"),
        ("  at", when(one.at, datetime.now(UTC))),
        ("  record", f"{one.seq} {one.commit}"),
    )


def moved(old: str, new: str) -> str:
    """`3f2c1a000000..9a8b7c000000`"""
    return f"{old[:12]}..{new[:12]}"


@command(
    "prove",
    parent=root,
    example="coordledger prove HEAD -o landed.proof",
)
@click.argument("commit", type=params.TEXT)
@click.option("-o", "--output", type=params.TEXT, metavar="FILE", help="Into FILE.")
@click.option("--ref", type=params.TEXT, metavar="REF", help="Where it came; else where first.")
@click.option("--whole", is_flag=True, help="With all records up to the newest.")
def prove(app: App, commit: str, output: str | None, ref: str | None, whole: bool) -> None:
    """Prove to others under whose claim a commit landed.

    COMMIT came to a fenced ref. The file has the ledger's records up to that landing, tasks,
    messages and facts, for everybody to read.
    """
    path = None if output is None else app.file(output)
    if path is not None and path.exists() and not path.is_file():
        raise error("bad-value", what="-o", why=f"{path} is no file")
    with app.ledger() as ledger:
        made = ledger.prove(commit, ref=ref, whole=whole)
    if path is None:
        app.screen.value({"proof": made.decode("ascii")})
        if not app.screen.json:
            app.screen.raw(made.decode("ascii"))
        return
    path.write_bytes(made)
    app.screen.value({"file": str(path), "bytes": len(made)})
    app.screen.line(f"{len(made)} bytes in {safe(path)}")


@command(
    "verify-proof",
    parent=root,
    example="coordledger verify-proof landed.proof --trust alice.pub",
)
@click.argument("file", type=params.TEXT)
@trust_option
@click.option("--secret-file", metavar="FILE", help="The master, or agents' secrets.")
@click.option("--chain-only", is_flag=True, help="Do without the secrets that are not given.")
@click.option(
    "--timeout", type=params.TIMEOUT, metavar="DURATION", help="How long it may take; 10m."
)
def verify_proof(
    app: App,
    file: str,
    trust: tuple[str, ...],
    secret_file: str | None,
    chain_only: bool,
    timeout: timedelta | None,
) -> None:
    """Verify FILE, a proof, with no network and no repository.

    `coordledger prove` has made it; - is stdin. Exit 0: it holds. 1: it was not checked. 4: it does
    not hold.
    """
    from coordledger.client import proving  # noqa: PLC0415 - help needs none
    from coordledger.client.heads import trusted  # noqa: PLC0415
    from coordledger.deadline import Deadline  # noqa: PLC0415

    folder = app.options().path
    known = [one for word in trust for one in trusted(word, folder)]
    secrets = read_secrets(app.file(secret_file)) if secret_file else []
    found = proving.judge(
        _content(app, file),
        known,
        secrets,
        Deadline((timeout or proving.PATIENCE).total_seconds()),
        chain_only=chain_only,
        progress=app.screen.progress,
    )
    app.screen.value_of(found)
    _tell(app.screen, found)


def read_secrets(path: Path) -> list[Secret]:
    """What a file that was named has. Raises `Failed`: bad-secret, secret-exposed."""
    from coordledger import keyfiles  # noqa: PLC0415 - as above

    found = keyfiles.read(str(path), os.environ.get(keyfiles.TRUSTED) or None)
    if found is None:
        raise error("bad-secret", where=path, why="there is no such file")
    return found


def _content(app: App, file: str) -> bytes:
    """What the file has, and no more than a byte too much of it."""
    from coordledger.format.proof import MAX_BYTES  # noqa: PLC0415 - as above

    if file == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with app.file(file).open("rb") as opened:
        return opened.read(MAX_BYTES + 1)


_COMPARED = {
    "owner": "the owner's key",
    "ledger": "the ledger's id",
    "head": "a head",
    "older-head": "a head from before the landing",
}


def _tell(screen: Screen, found: Proof) -> None:
    now = datetime.now(UTC)
    below = {0: "", 1: ", whose parent it is"}
    outcome = (
        screen.styled("none", "NOT PROVED") if found.unchecked else screen.styled("ok", "proved")
    )
    screen.line(f"{outcome}  {found.commit} came to {safe(found.ref)}")
    steps = below.get(found.distance, f", {found.distance} parents above it")
    signer, *others = found.keys
    screen.fields(
        ("moved", f"{moved(found.old, found.new)}{steps}"),
        ("by", safe(f"{found.agent}/{found.session}")),
        ("task", f"{task_name(found.task)}, epoch {found.epoch}"),
        ("claimed", f"record {found.claim_seq}, {when(found.claimed_at, now)}"),
        ("landed", f"record {found.seq}, {when(found.at, now)}"),
        ("key", _key(signer)),
        *(("enrolled by", _key(one)) for one in others),
        ("ledger", found.head.ledger),
        ("records", _checked(found)),
        ("compared", ", ".join(_COMPARED[what] for what in found.compared)),
    )
    if not found.compared:
        screen.line("not compared with anything that you trust: --trust KEY, the owner's")


def _key(one: Authority) -> str:
    shown = f"{one.alg} {one.verifier}"
    return f"{one.agent}/{one.key} {safe(shown)}, brought by record {one.seq}"


def _checked(found: Proof) -> str:
    if not found.unchecked:
        return f"{found.records}, all checked"
    return f"{found.records}, {found.unchecked} of them checked by nobody: no secret here"
