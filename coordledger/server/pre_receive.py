"""The server's side of a push (docs/format.md, section 10).

Rules of this file:
- It decides about refs/coordledger/*, refs/coordledger-try/* and refs/for/coordledger/*, and
  about no other ref, but for those whose names end in one of these and so make it ambiguous.
- What is pushed to refs/for/coordledger/* is judged by the hook that runs next, `sequence`;
  here it passes where that hook is in force, and nowhere else.
- It fails closed: what it cannot read, find or finish is refused, in one line.
- It has no side effects: git runs it for pushes that then lose the race.
- It verifies with `verify` alone; what stands here is only what a server adds.
- Imports are kept few: every push to a ledger starts this. `os` alone takes a millisecond.

What a client claims as the old value is not believed: it must be the ref's own.
"""

from __future__ import annotations

import posix
import sys
import time

from coordledger import keyfiles
from coordledger.errors import CoordledgerError, RuleBroken, printable
from coordledger.format import records, timestamps
from coordledger.format.chain import AUTHENTIC, Chain
from coordledger.format.commit import MAX_COMMIT_BYTES, parse_commit
from coordledger.format.records import FOR, LEDGERS, TRIES
from coordledger.format.signing import Keyring, Secret
from coordledger.git.loose import Reader
from coordledger.git.tree import algorithm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from coordledger.format.commit import Commit
    from coordledger.format.records import Record
    from coordledger.format.state import State
    from coordledger.git.cat_file import Found

MAX_RECORDS = 1024
MAX_BYTES = 33_554_432
MAX_INPUT = 16_777_216
_HEX = frozenset("0123456789abcdef")
DAY = 86_400_000
DEFAULT_GAP = 30 * DAY
_LOT = 64
# A push of so many records is likely to bring more, which are asked for together.
_MILESTONES = {16, 32, *range(_LOT, MAX_RECORDS, _LOT)}


def pre_receive(
    pushed: bytes,
    objects: Reader,
    keyring: Keyring,
    now: int,
    max_gap: Callable[[], int],
    *,
    sequenced: bool = False,
) -> str:
    """Judge a push: "" if it may pass, else the one line that refuses it.

    `pushed` is the hook's standard input; `now` milliseconds since 1970; `max_gap()` the
    milliseconds that the server may be ahead of the newest record; `sequenced`: git hands
    refs/for/coordledger/* to the proc-receive hook.
    """
    short, seen = "-", set()
    try:
        if not pushed.endswith(b"\n"):
            raise RuleBroken("bad-push", why="the list of refs is cut off")
        for line in pushed.decode("ascii", "surrogateescape").split("\n")[:-1]:
            old, new, ref = _update(line)
            if ref is not None:
                short = new[:12]
                if ref in seen:  # no client of git's does that; each would cost a full check
                    raise RuleBroken("bad-push", why="a ref stands twice in the list")
                seen.add(ref)
                if ref.lower().startswith(FOR):
                    _judge_for(ref, sequenced=sequenced)
                else:
                    _judge_ref(old, new, ref, AdmissionContext(objects, keyring, now, max_gap))
    except RuleBroken as broken:
        return refusal(broken.data.get("commit", short)[:12], broken.code, str(broken))
    return ""


def refusal(short: str, code: str, message: str) -> str:
    return f"coordledger: refused {printable(short, 12)}: {code}: {printable(message)}"


def code_of(refused: str) -> str:
    """The code in the line of a refusal."""
    return refused.split(": ")[2]


class AdmissionContext:
    """What decides beside the chain: secrets, clock, the owner's settings."""

    def __init__(
        self, objects: Reader, keyring: Keyring, now: int, max_gap: Callable[[], int]
    ) -> None:
        self.objects, self.keyring, self.now, self.max_gap = objects, keyring, now, max_gap


def _update(line: str) -> tuple[str, str, str | None]:
    """Old id, new id and ref of one line; ref None if it is none of ours."""
    old, _, rest = line.partition(" ")
    new, _, ref = rest.partition(" ")
    good = len(old) == len(new) and len(old) in (40, 64) and _HEX.issuperset(old + new)
    if not ref or not good:
        raise RuleBroken("bad-push", why="a line of the list is not: old new ref")
    # A file system that folds case would store refs/Coordledger/x as our ref's file.
    lower = ref.lower()
    ours = "/".join(lower.split("/")[:2]) in (LEDGERS[:-1], TRIES[:-1])
    # As soon as refs/heads/refs/coordledger/x exists, `git push` takes refs/coordledger/x for
    # ambiguous and pushes nothing; and it takes refs/heads/refs/for/coordledger/x for what is
    # meant by refs/for/coordledger/x. Such a ref may be removed, and not made.
    made = bool(new.strip("0"))
    ours = ours or (
        made and (lower.startswith(FOR) or f"/{LEDGERS}" in lower or f"/{FOR}" in lower)
    )
    return old, new, ref if ours else None


def _judge_for(ref: str, *, sequenced: bool) -> None:
    if not ref.startswith(FOR) or not records.is_identifier(ref.removeprefix(FOR)):
        raise RuleBroken("bad-ref", ref=ref)
    if not sequenced:
        raise RuleBroken("not-sequenced", ref=ref)


def _judge_ref(old: str, new: str, ref: str, server: AdmissionContext) -> None:
    trying = ref.startswith(TRIES)
    name = ref.removeprefix(TRIES if trying else LEDGERS)
    if not records.is_identifier(name):
        raise RuleBroken("bad-ref", ref=ref)
    if not new.strip("0"):
        raise RuleBroken("no-delete")
    found = server.objects.find(LEDGERS + name, MAX_COMMIT_BYTES)
    if found is None:
        raise RuleBroken("no-create")
    head = parse_commit(found[0], found[2])
    if not trying and old != head.oid:
        raise RuleBroken("not-fast-forward")
    if new == head.oid:
        raise RuleBroken("bad-push", why="nothing new")
    chain = Chain(server.objects.read, server.keyring, head, algorithm(head.oid))
    for one, content in new_commits(server.objects, new, lambda oid, _: oid == head.oid):
        parent, before = chain.head, chain.state
        try:
            verdict = chain.judge(one.oid, content, one)
            if chain.head is not None:
                admit(verdict, chain.head.record, parent, before, server)
        except RuleBroken as broken:
            broken.data["commit"] = one.oid  # whom the refusal names: the others may come again
            raise
    if trying:
        raise RuleBroken("try-ok")


def new_commits(
    objects: Reader, new: str, known: Callable[[str | None, int], bool]
) -> list[tuple[Commit, bytes]]:
    """The commits up to `new`, each with its content, oldest first, along raw parents.

    They end above the first parent that is `known`, by its id and the seq that it has to have;
    its id is None where there is no parent.
    """
    found: list[tuple[Commit, bytes]] = []
    total, oid = 0, new
    ahead: dict[str, Found] = {}
    while True:
        if len(found) == MAX_RECORDS:
            raise RuleBroken("too-many-records", limit=MAX_RECORDS)
        if len(found) in _MILESTONES:  # parents are a guess, for speed: only their ids count
            names = [f"{oid}~{n}" for n in range(min(len(found), _LOT))]
            ahead = objects.find_all(names, MAX_COMMIT_BYTES)
        got = ahead.get(oid) or objects.find(oid, MAX_COMMIT_BYTES)
        if got is None or got[1] != "commit":
            raise RuleBroken("bad-push", why=f"no commit {oid[:12]}")
        total += len(got[2])
        if total > MAX_BYTES:
            raise RuleBroken("too-large", what="the push", size=total, limit=MAX_BYTES)
        one = parse_commit(oid, got[2])
        found.append((one, got[2]))
        if known(one.parent, one.seq - 1):
            return found[::-1]
        if one.parent is None:
            raise RuleBroken("not-fast-forward")
        oid = one.parent


def admit(
    verdict: str, r: Record, parent: Commit | None, state: State, server: AdmissionContext
) -> None:
    """What a server adds to the verdict on a record; `state` is the parent's."""
    if parent is None:
        raise RuleBroken("no-create")
    if verdict != AUTHENTIC:
        raise RuleBroken("no-secret", agent=r["agent"], key=r["key"])
    skew = state.skew
    off = timestamps.parse(r["at"]) - server.now
    if abs(off) > skew:
        raise RuleBroken(
            "clock-skew",
            off=timestamps.span(abs(off)),
            direction="ahead of" if off > 0 else "behind",
            limit=skew // 1000,
        )
    gap = server.now - 1000 * parent.committed
    if gap > DAY and gap > server.max_gap():
        limit = timestamps.span(server.max_gap())
        raise RuleBroken("gap", gap=timestamps.span(gap), limit=limit, suggest=f"{gap // DAY + 1}d")
    if r["kind"] == "claim":
        for item in r["tasks"]:
            task = state.task(item["task"])
            if task and task["status"] == "claimed" and server.now < state.claimable_at(task):
                at = timestamps.show(state.claimable_at(task))
                raise RuleBroken("too-early", task=item["task"], claimable_at=at)


# -- the surroundings: environment, files and clock are read below, nowhere above


def server_keyring(folder: str) -> Keyring:
    """The keyring of a repository's `coordledger` folder. Raises `Failed`."""
    masters = keyfiles.read(f"{folder}/master")

    def secrets_of(agent: str) -> list[Secret]:
        return keyfiles.read(f"{folder}/{agent}.secret") or []

    return Keyring(masters or [], secrets_of)


def configured_gap(environ: dict[str, str]) -> int:
    """`coordledger.maxGap` of the repository, in milliseconds: `90d`, `36h`."""
    import subprocess  # noqa: PLC0415 - asked for once in a ledger's long pause

    asked = ["git", "config", "--get", "coordledger.maxGap"]
    ran = subprocess.run(asked, env=environ, capture_output=True, text=True, check=False)
    text = ran.stdout.strip()
    if ran.returncode == 1 and not text:
        return DEFAULT_GAP
    units = {"d": DAY, "h": DAY // 24}
    if text[:-1].isdecimal() and text[-1] in units:
        return int(text[:-1]) * units[text[-1]]
    raise RuleBroken("hook-broken", why=f"coordledger.maxGap is {text}, not like 90d or 36h")


def judge(
    pushed: bytes,
    environ: dict[str, str],
    now: int,
    reader: Callable[[dict[str, str]], Reader] = Reader,
    max_gap: Callable[[dict[str, str]], int] = configured_gap,
    *,
    sequenced: bool = False,
) -> str:
    """Judge a push in the repository that `environ` names, as `pre_receive` does."""
    try:
        if len(pushed) > MAX_INPUT:
            raise RuleBroken("too-large", what="the push", size=len(pushed), limit=MAX_INPUT)
        keyring = server_keyring(f"{environ.get('GIT_DIR', '.')}/coordledger")
        with reader(environ) as objects:
            gap = lambda: max_gap(environ)  # noqa: E731 - asked for rarely
            return pre_receive(pushed, objects, keyring, now, gap, sequenced=sequenced)
    except RuleBroken as broken:
        return refusal("-", broken.code, str(broken))
    except CoordledgerError as fault:
        return refusal("-", "hook-broken", fault.message)
    except Exception as fault:  # noqa: BLE001 - fail closed, whatever it is
        return refusal("-", "hook-broken", f"{type(fault).__name__}: {fault}")


def main(environ: dict[str, str], *, sequenced: bool = False) -> int:
    """What `coordledger hook pre-receive` runs: 0 lets the push pass, 1 refuses it."""
    pushed, now = sys.stdin.buffer.read(MAX_INPUT + 1), time.time_ns() // 1_000_000
    line = judge(pushed, environ, now, sequenced=sequenced)
    if line:
        sys.stderr.write(line + "\n")
    return 1 if line else 0


def environment() -> dict[str, str]:
    """What `os.environ` has, without `os`."""
    code = (sys.getfilesystemencoding(), "surrogateescape")
    return {name.decode(*code): value.decode(*code) for name, value in posix.environ.items()}


def start() -> NoReturn:
    """What the hook's shell script runs: `main`, without `os` and without tidying up."""
    answer = main(environment(), sequenced=sys.argv[2:] == ["sequenced"])
    sys.stderr.flush()
    posix._exit(answer)  # noqa: SLF001 - its public name is in os
