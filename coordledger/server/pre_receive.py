"""The pre-receive hook: it judges a push before git moves any ref (docs/format.md, section 10).

Rules of this file:
- It decides about refs/coordledger/*, refs/coordledger-try/* and refs/for/coordledger/*, lets
  nobody move refs/coordledger-cut/*, and decides about no other ref, but for those whose names
  end in one of these and so make it ambiguous, and those that are fenced (`fence`).
- What is pushed to refs/for/coordledger/*.answered lands at once where nothing else would happen
  after it (`in_quarantine`). Elsewhere, and from refs/for/coordledger/*, it passes where the hook
  that runs next, `proc_receive`, is in force, and would land it: `arrival` judges that.
- It fails closed: what it cannot read, find or finish is refused, in one line.
- What it judges has no side effects but the mark of what it has verified (`mark`): git runs it for
  pushes that then lose the race.
- It says how far it has verified each ledger of the push: a vouch.
- `format.chain` verifies and `admission` says what a server adds; no rule of theirs stands here.
- Imports are kept few: every push to a ledger starts this. `os` alone takes a millisecond.

The old value that a client claims is not believed: it must be the ref's own.
"""

from __future__ import annotations

import posix
import sys

from coordledger import answers
from coordledger.answers import Landed, Refused, Unknown
from coordledger.deadline import unix_ms
from coordledger.errors import RuleBroken
from coordledger.format.chain import Chain
from coordledger.format.commit import parse_commit
from coordledger.format.names import CUT, FOR, LEDGERS, TRIES, is_identifier, ledger_for
from coordledger.git.loose import Reader
from coordledger.git.refs import parse_update
from coordledger.hashes import algorithm
from coordledger.server.admission import (
    MAX_INPUT,
    AdmissionContext,
    admit,
    configured_gap,
    environment,
    new_commits,
    server_keyring,
)
from coordledger.server.fence import read_fences
from coordledger.server.mark import Marks, vouch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from coordledger.answers import Answer
    from coordledger.format.commit import Commit
    from coordledger.format.signing import Keyring
    from coordledger.format.state import State
    from coordledger.server.arrival import Arrival
    from coordledger.server.fence import Fences

    # Lands the records of a ledger up to a commit that the reader sees: answers, or None.
    Landing = Callable[[str, str, Reader, Keyring], list[Answer] | None]


class Moved:
    """What a push does to one ledger, as it was found good: its head, the newest commit, and those
    that land code, each with the state that it was made for.
    """

    __slots__ = ("landings", "name", "new", "old")

    def __init__(
        self, name: str, old: Commit, new: Commit, landings: list[tuple[Commit, State]]
    ) -> None:
        self.name, self.old, self.new, self.landings = name, old, new, landings


def judge_updates(
    pushed: bytes,
    context: AdmissionContext,
    marks: Marks,
    fences: Fences,
    *,
    sequenced: bool = False,
) -> list[Answer]:
    """Judge a push: it may pass if no answer `stops` it.

    `pushed` is the hook's standard input; `sequenced`: git hands refs/for/coordledger/* to the
    proc-receive hook.
    """
    commit, seen, others = "", set(), False
    moves: list[tuple[str, str, str]] = []  # of the code's refs
    ahead = 0  # so many of these come before a ledger
    arrivals: list[Arrival] = []
    tried: list[Answer] = []
    moved: list[Moved] = []
    try:
        if not pushed.endswith(b"\n"):
            raise RuleBroken("bad-push", why="the list of refs is cut off")
        for line in pushed.decode("ascii", "surrogateescape").split("\n")[:-1]:
            old, new, ref = parse_update(line)
            if not _is_ours(ref, deleted=not new.strip("0")):
                others = others or bool(new.strip("0"))
                moves.append((old, new, ref))
                continue
            commit, ahead = new, len(moves)
            if ref in seen:  # no client of git's does that; each would cost a full check
                raise RuleBroken("bad-push", why="a ref stands twice in the list")
            seen.add(ref)
            if ref.lower().startswith(FOR):
                arrivals.append(_judge_for(new, ref, context, marks, sequenced=sequenced))
                if arrivals[-1].answers:
                    return arrivals[-1].answers
            elif ref.startswith(TRIES):
                _judge_try(new, ref, context, marks, tried)
            else:
                moved.append(_judge_ref(old, new, ref, context, marks))
        if arrivals and not (others or moved):
            _check_brought(arrivals, context)
        landings = {one.name: [commit for commit, _ in one.landings] for one in moved}
        fences.need_pairs(moves, landings, ahead, lambda ref: _value(ref, context))
        _check_paths([one for one in moved if one.name in fences.paths], fences, context)
        for one in moved:
            marks.keep(one.name, one.old, one.new)
    except RuleBroken as broken:
        return [*tried, answers.refused(commit, broken)]
    return [vouch(one.new, context.now) for one in moved]


def _is_ours(ref: str, *, deleted: bool) -> bool:
    """Whether the hook decides about a ref; `deleted`: that is what the push asks for."""
    # A file system that folds case would store refs/Coordledger/x as our ref's file.
    lower = ref.lower() + "/"
    if lower.startswith((LEDGERS, TRIES, CUT)):
        return True
    # As soon as refs/heads/refs/coordledger/x exists, `git push` takes refs/coordledger/x for
    # ambiguous and pushes nothing; and it takes refs/heads/refs/for/coordledger/x for what is
    # meant by refs/for/coordledger/x. Such a ref may be removed, and not made.
    # git hands the folder's own name to proc-receive, too, which would refuse it too late.
    if deleted:
        return False
    return lower.startswith(FOR) or f"/{LEDGERS}" in lower or f"/{FOR}" in lower


def _judge_for(
    new: str, ref: str, context: AdmissionContext, marks: Marks, *, sequenced: bool
) -> Arrival:
    name = ledger_for(ref)
    if not name:
        raise RuleBroken("bad-ref", ref=ref)
    if not sequenced:
        raise RuleBroken("not-sequenced", ref=ref)
    if not new.strip("0"):
        raise RuleBroken("no-delete")
    head = _head(name, context, marks)
    from coordledger.server.arrival import Arrival  # noqa: PLC0415 - other pushes need none

    return Arrival(head, new, context)


def _check_brought(arrivals: list[Arrival], context: AdmissionContext) -> None:
    from coordledger.server.arrival import check_brought  # noqa: PLC0415 - see above

    check_brought(arrivals, context.objects)


def _judge_ref(old: str, new: str, ref: str, context: AdmissionContext, marks: Marks) -> Moved:
    name = _ledger_of(ref, LEDGERS, new)
    head = _head(name, context, marks)
    if old != head.oid:
        raise RuleBroken("not-fast-forward")
    newest, landings = _judge_commits(new, head, context)
    return Moved(name, head, newest, landings)


def _judge_try(
    new: str, ref: str, context: AdmissionContext, marks: Marks, tried: list[Answer]
) -> None:
    """Raises `RuleBroken` in any case; what it answers beside that is added to `tried`."""
    head = _head(_ledger_of(ref, TRIES, new), context, marks)
    tried.append(vouch(head, context.now))
    _judge_commits(new, head, context)
    raise RuleBroken("try-ok")


def _ledger_of(ref: str, folder: str, new: str) -> str:
    name = ref.removeprefix(folder)
    if not is_identifier(name):  # as where the folder is in capitals
        raise RuleBroken("bad-ref", ref=ref)
    if not new.strip("0"):
        raise RuleBroken("no-delete")
    return name


def _head(name: str, context: AdmissionContext, marks: Marks) -> Commit:
    """The ledger's newest commit; it is verified, and all below it."""
    found = context.objects.find(LEDGERS + name)
    if found is None:
        raise RuleBroken("no-create")
    marks.need(name, found[0])
    return parse_commit(found[0], found[2])


def _value(ref: str, context: AdmissionContext) -> str:
    """The id that a ref has, or ""."""
    found = context.objects.find(ref)
    return found[0] if found else ""


def _check_paths(moved: list[Moved], fences: Fences, context: AdmissionContext) -> None:
    if not any(one.landings for one in moved):
        return
    from coordledger.server.path_fence import PathFence  # noqa: PLC0415 - most need none

    paths = PathFence(fences, context.objects, context.now)
    for one in moved:
        for commit, before in one.landings:
            try:
                paths.need_untouched(one.name, commit.record, before)
            except RuleBroken as broken:
                broken.data["commit"] = commit.oid
                raise


def _judge_commits(
    new: str, head: Commit, context: AdmissionContext
) -> tuple[Commit, list[tuple[Commit, State]]]:
    """Judge the commits above the ledger's head, up to `new`: the newest, and those that land code,
    each with the state before it.
    """
    if new == head.oid:
        raise RuleBroken("bad-push", why="nothing new")
    chain = Chain(context.objects.read, context.keyring, head, algorithm(head.oid))
    landings: list[tuple[Commit, State]] = []
    for commit, content in new_commits(context.objects, new, lambda oid, _: oid == head.oid):
        parent, before = chain.head, chain.state
        try:
            verdict = chain.judge(commit.oid, content, commit)
            admit(verdict, commit.record, parent, before, context)
        except RuleBroken as broken:
            broken.data["commit"] = commit.oid  # the refusal names it: the others may come again
            raise
        context.spend(chain.rendered)
        if commit.record["kind"] == "land":
            landings.append((commit, before))
    return commit, landings


# -- the program


def judge(
    pushed: bytes,
    environ: dict[str, str],
    now: int,
    reader: Callable[[dict[str, str]], Reader] = Reader,
    max_gap: Callable[[dict[str, str]], int] = configured_gap,
    *,
    sequenced: bool = False,
    land: Landing | None = None,
) -> list[Answer]:
    """Judge a push in the repository that `environ` names, as `judge_updates` does; `land` may land
    what is to be sequenced and end the push: see `in_quarantine`.

    `now` in milliseconds since 1970. Raises nothing.
    """
    try:
        if len(pushed) > MAX_INPUT:
            raise RuleBroken("too-large", what="the push", size=len(pushed), limit=MAX_INPUT)
        folder = f"{environ.get('GIT_DIR', '.')}/coordledger"
        keyring, fences = server_keyring(folder), read_fences(folder)
        alone = _records_alone(pushed) if sequenced and land else None
        with reader(environ) as objects:
            if alone and land:
                given = land(*alone, objects, keyring)
                if given is not None:
                    return given
            context = AdmissionContext(objects, keyring, now, lambda: max_gap(environ))
            marks = Marks(environ, objects, keyring)
            return judge_updates(pushed, context, marks, fences, sequenced=sequenced)
    except Exception as fault:  # noqa: BLE001 - fail closed, whatever it is
        return [answers.refused("", fault)]


def _records_alone(pushed: bytes) -> tuple[str, str] | None:
    if FOR.encode() not in pushed:
        return None
    from coordledger.server.in_quarantine import records_alone  # noqa: PLC0415 - see above

    return records_alone(pushed)


def refusal(given: list[Answer]) -> Refused | None:
    """The answer that refuses the push, if one does."""
    return next((answer for answer in given if isinstance(answer, Refused)), None)


def stops(given: list[Answer]) -> bool:
    """Whether a push goes no further: it is refused, or told where it has landed, or may have."""
    return any(isinstance(answer, (Refused, Landed, Unknown)) for answer in given)


def main(environ: dict[str, str], *, sequenced: bool = False, asked: bool = False) -> int:
    """The program of `coordledger hook pre-receive`: 0 lets the push pass, 1 refuses it.

    `asked`: a resident process was, and may have stopped in the middle of its turn.
    """
    pushed = sys.stdin.buffer.read(MAX_INPUT + 1)
    given = _end_of_resident(pushed, environ) if asked else []
    given = given or judge(pushed, environ, unix_ms(), sequenced=sequenced, land=_land)
    sys.stderr.write("".join(f"{answer}\n" for answer in given))
    return 1 if stops(given) else 0


def _end_of_resident(pushed: bytes, environ: dict[str, str]) -> list[Answer]:
    """Wait until a resident process that was asked can land the push no more: where it has begun
    its turn, the turn is over then, and it begins none for who has gone. An answer where it may.
    """
    alone = _records_alone(pushed)
    if alone is None:
        return []
    from coordledger.server.sequencer import wait_for_turn  # noqa: PLC0415 - see above

    name, new = alone
    try:
        wait_for_turn(environ.get("GIT_DIR", "."), name)
    except Exception as fault:  # noqa: BLE001 - whatever it is, nothing is certain
        return [Unknown(new, answers.reason(fault))]
    return []


def _land(name: str, new: str, pushed: Reader, keyring: Keyring) -> list[Answer] | None:
    from coordledger.server.in_quarantine import land  # noqa: PLC0415 - see above

    return land(name, new, pushed, keyring, configured_gap)


def start() -> NoReturn:
    """The hook's shell script runs this: `main`, without `os` and without tidying up."""
    sequenced, asked = (*sys.argv[2:], "", "")[:2]
    code = main(environment(), sequenced=bool(sequenced), asked=bool(asked))
    sys.stderr.flush()
    posix._exit(code)  # noqa: SLF001 - its public name is in os
