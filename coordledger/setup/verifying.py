"""`hook verify`: bring a repository's marks up to its ledgers' heads, however far that is.

Rules: run it as the account that receives the pushes, with the secrets that they are verified with.
What has been done is kept now and then, so that a run that was interrupted is resumed. Pushes may
come meanwhile: a mark that covers the head already is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from coordledger import files
from coordledger.errors import RuleBroken, error
from coordledger.format.commit import parse_commit
from coordledger.format.names import LEDGERS, is_identifier
from coordledger.git.process import child_environment
from coordledger.git.repository import open_bare
from coordledger.server import mark
from coordledger.server.admission import server_keyring
from coordledger.server.catch_up import catch_up, git_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Self

_TOLD, _KEPT = 100, 10_000  # records


class VerifiedLedger(NamedTuple):
    """A ledger that is verified up to its head; `records` of it just now."""

    name: str
    ledger: str
    seq: int
    digest: str
    records: int


class VerifiedRepository:
    """The bare repository at `path`, whose ledgers are verified."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        """Raises `Failed`: not-a-repository, bad-value, …"""
        self._git = git_in(child_environment(environ) | {"GIT_DIR": str(path)})
        self._repository = open_bare(path, self._git)
        self._path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._repository.close()

    def ledgers(self) -> list[str]:
        """The names of the ledgers that are here."""
        listed = self._git.output("for-each-ref", "--format=%(refname)", LEDGERS)
        names = (ref.removeprefix(LEDGERS) for ref in listed.split())
        return [name for name in names if is_identifier(name)]

    def verify(
        self,
        name: str,
        *,
        full: bool = False,
        progress: Callable[[str, int, int], None] = lambda what, done, of: None,
    ) -> VerifiedLedger:
        """Verify a ledger from its mark on, or from its first record if `full`; set its mark.

        Raises `Failed`: not-a-ledger, secret-exposed, bad-secret, no-secret, unverified-below, …;
        `Integrity`: invalid-below, bad-copy.
        """
        head = self._repository.ref(LEDGERS + name)
        if head is None:
            raise error("not-a-ledger", remote=self._path, name=name, others="")
        place = mark.path_in(str(self._path), name)

        def passed(oid: str, done: int, of: int) -> None:
            if done % _TOLD == 0:
                progress("verifying", done, of)
            if done % _KEPT == 0 and not full:
                mark.write(place, oid, oid, durable=True)

        keyring, read = server_keyring(f"{self._path}/coordledger"), self._repository.read
        marked = () if full else mark.read(place)
        try:
            records = catch_up(read, self._git, keyring, head, marked, most=None, passed=passed)
            if self._repository.ref(LEDGERS + name) not in mark.read(place):
                mark.write(place, head, head, durable=True)
        except RuleBroken as broken:
            if full and broken.code == "invalid-below":  # whatever is marked
                files.remove(place)
            raise broken.own() from None
        newest = parse_commit(head, read(head))
        return VerifiedLedger(name, newest.record["ledger"], newest.seq, newest.digest, records)
