"""The proc-receive hook: it lands what is pushed to refs/for/coordledger/* (githooks(5)).

Rules of this file:
- git's receive-pack asks for each ref once and believes the report. A ref that is not in the
  report has an unknown outcome, and the client looks for it.
- It fails closed: a command that it cannot read or land is refused, in one line.
- It never says "refused" where a resident process was asked before and may still land the push.
- Imports are kept few, as in `pre_receive`.

It talks with git; `sequencer` lands records.
"""

from __future__ import annotations

import posix
import sys

from coordledger import answers
from coordledger.answers import Unknown
from coordledger.errors import RuleBroken
from coordledger.format.names import LEDGERS, ledger_for
from coordledger.git import pktline
from coordledger.git.loose import Reader
from coordledger.git.pktline import FLUSH, ProtocolError
from coordledger.git.refs import parse_update
from coordledger.server.admission import MAX_INPUT, environment, server_keyring
from coordledger.server.sequencer import Outcome, Sequencer, land_alone, refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, NoReturn

    Command = tuple[str, str]  # the new id and the ref

# -- what git says


def read_lines(take: Callable[[int], bytes]) -> list[bytes]:
    """The lines that git says up to its next flush. Raises `RuleBroken`: bad-push."""
    try:
        packets = pktline.read(take, MAX_INPUT)
    except ProtocolError:
        raise RuleBroken("bad-push", why="the list of refs is cut off") from None
    return [packet.removesuffix(b"\n") for packet in packets]


def packet(line: str) -> bytes:
    return pktline.encode(line.encode("utf-8", "surrogateescape"))


def parse_command(line: bytes) -> Command:
    """The new id and the ref of a command. Raises `RuleBroken`: bad-push."""
    _, new, ref = parse_update(line.decode("utf-8", "surrogateescape"))
    return new, ref


def ledger_of(ref: str) -> str:
    """The ledger that a ref for records names. Raises `RuleBroken`: bad-ref."""
    name = ledger_for(ref)
    if not name:
        raise RuleBroken("bad-ref", ref=ref)
    return name


def negotiate(ask: IO[bytes], out: IO[bytes]) -> tuple[bool, list[Command]]:
    """Whether the push is atomic, and its commands. Raises `RuleBroken`: bad-push."""
    version = b"".join(read_lines(ask.read)[:1])
    out.write(packet("version=1") + FLUSH)
    out.flush()
    return is_atomic(version), [parse_command(line) for line in read_lines(ask.read)]


def resume(ask: IO[bytes], version: bytes, given: bytes) -> tuple[bool, list[Command]]:
    """As `negotiate`, where the shell has answered git, and has read the line of the version.

    `given` is what it has read after that: the flush, the first command and the four bytes that
    follow, or nothing; a shell leaves out bytes of zero.
    """

    def read(size: int) -> bytes:
        nonlocal given
        part, given = given[:size], given[size:]
        return part + ask.read(size - len(part))

    read_lines(read)
    return is_atomic(version), [parse_command(line) for line in read_lines(read)]


def is_atomic(version: bytes) -> bool:
    """Whether the line with the version names that feature."""
    return b"atomic" in version.partition(b"version=1")[2].replace(b"\0", b"").split()


def report(ref: str, outcome: Outcome) -> bytes:
    """The report to receive-pack about one command."""
    if outcome.code:
        return packet(f"ng {ref} {outcome.code}")
    lines = [f"ok {ref}", f"option refname {LEDGERS}{ledger_for(ref)}"]
    lines += [f"option old-oid {outcome.old}", f"option new-oid {outcome.new}"]
    return b"".join(map(packet, lines))


# -- the commands of one push


def land_command(
    command: Command, make: Callable[[str], Sequencer], *, asked: bool
) -> Outcome | Unknown:
    """Land what one command brings, in its turn.

    `make` gives a ledger's sequencer; `asked` as `land_alone` has it.
    """
    new, ref = command

    def sequencer() -> Sequencer:
        name = ledger_of(ref)
        if not new.strip("0"):
            raise RuleBroken("no-delete")
        return make(name)

    return land_alone(new, sequencer, asked=asked)


def answer_commands(
    commands: list[Command],
    out: IO[bytes],
    err: IO[str],
    make: Callable[[str], Sequencer],
    *,
    atomic: bool,
    asked: bool,
) -> None:
    """Land the commands and report them to receive-pack, one after the other."""
    twice = _twice([ref for _, ref in commands])
    for command in commands:
        new, ref = command
        why = ""
        if atomic:  # git could take the other refs back, and not what has landed here
            why = "an atomic push cannot be sequenced"
        elif ref in twice:
            why = "a ref stands twice in the list"
        outcome: Outcome | Unknown
        if why:
            outcome = refused(new, RuleBroken("bad-push", why=why))
        else:
            outcome = land_command(command, make, asked=asked)
        if isinstance(outcome, Unknown):
            err.write(f"{outcome}\n")
            err.flush()
            continue
        err.write("".join(f"{answer}\n" for answer in outcome.answers))
        err.flush()
        out.write(report(ref, outcome))
        out.flush()
    out.write(FLUSH)
    out.flush()


def _twice(refs: list[str]) -> set[str]:
    """Those that stand in the list more than once: a push may have a hundred thousand."""
    seen, twice = set[str](), set[str]()
    for ref in refs:
        (twice if ref in seen else seen).add(ref)
    return twice


# -- the program


def main(environ: dict[str, str], version: bytes = b"", given: bytes = b"") -> int:
    """The program of `coordledger hook proc-receive`: 0 if every command has an answer.

    `version` and `given` are what the shell has read of git's words.
    """
    sure, ask, out = not given, sys.stdin.buffer, sys.stdout.buffer
    try:
        keyring = server_keyring(f"{environ.get('GIT_DIR', '.')}/coordledger")
        atomic, commands = resume(ask, version, given) if version else negotiate(ask, out)
        sure = False
        with Reader(environ) as objects:

            def make(name: str) -> Sequencer:
                return Sequencer(name, environ).use(objects, keyring)

            answer_commands(commands, out, sys.stderr, make, atomic=atomic, asked=bool(given))
    except Exception as fault:  # noqa: BLE001 - fail closed, whatever it is
        answer = answers.refused("", fault) if sure else Unknown("", answers.reason(fault))
        sys.stderr.write(f"{answer}\n")
        return 1
    return 0


def start() -> NoReturn:
    """The hook's shell script runs this: `main`, without `os` and without tidying up."""
    code = (sys.getfilesystemencoding(), "surrogateescape")
    answered = main(environment(), *(text.encode(*code) for text in sys.argv[2:]))
    sys.stderr.flush()
    posix._exit(answered)  # noqa: SLF001 - its public name is in os
