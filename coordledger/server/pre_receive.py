"""The pre-receive hook: it judges a push before git moves any ref (docs/format.md, section 10).

Rules of this file:
- It decides about refs/coordledger/*, refs/coordledger-try/* and refs/for/coordledger/*, and
  about no other ref, but for those whose names end in one of these and so make it ambiguous.
- The hook that runs next, `proc_receive`, judges what is pushed to refs/for/coordledger/*; here
  such a push passes where that hook is in force, and nowhere else.
- It fails closed: what it cannot read, find or finish is refused, in one line.
- It has no side effects: git runs it for pushes that then lose the race.
- `format.chain` verifies and `admission` says what a server adds; no rule of theirs stands here.
- Imports are kept few: every push to a ledger starts this. `os` alone takes a millisecond.

The old value that a client claims is not believed: it must be the ref's own.
"""

from __future__ import annotations

import posix
import sys

from coordledger.deadline import unix_ms
from coordledger.errors import RuleBroken
from coordledger.format.chain import Chain
from coordledger.format.commit import MAX_COMMIT_BYTES, parse_commit
from coordledger.format.names import FOR, LEDGERS, TRIES, is_identifier
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from coordledger.answers import Refused


def judge_updates(
    pushed: bytes, context: AdmissionContext, *, sequenced: bool = False
) -> Refused | None:
    """Judge a push: None if it may pass.

    `pushed` is the hook's standard input; `sequenced`: git hands refs/for/coordledger/* to the
    proc-receive hook.
    """
    commit, seen = "", set()
    try:
        if not pushed.endswith(b"\n"):
            raise RuleBroken("bad-push", why="the list of refs is cut off")
        for line in pushed.decode("ascii", "surrogateescape").split("\n")[:-1]:
            old, new, ref = parse_update(line)
            if not _is_ours(ref, deleted=not new.strip("0")):
                continue
            commit = new
            if ref in seen:  # no client of git's does that; each would cost a full check
                raise RuleBroken("bad-push", why="a ref stands twice in the list")
            seen.add(ref)
            if ref.lower().startswith(FOR):
                _judge_for(ref, sequenced=sequenced)
            else:
                _judge_ref(old, new, ref, context)
    except RuleBroken as broken:
        return _refused(broken.data.get("commit", commit), broken)
    return None


def _refused(commit: str, fault: Exception) -> Refused:
    from coordledger import answers  # noqa: PLC0415 - a push that passes needs none

    return answers.refused(commit, fault)


def _is_ours(ref: str, *, deleted: bool) -> bool:
    """Whether the hook decides about a ref; `deleted`: that is what the push asks for."""
    # A file system that folds case would store refs/Coordledger/x as our ref's file.
    lower = ref.lower()
    if "/".join(lower.split("/")[:2]) in (LEDGERS[:-1], TRIES[:-1]):
        return True
    # As soon as refs/heads/refs/coordledger/x exists, `git push` takes refs/coordledger/x for
    # ambiguous and pushes nothing; and it takes refs/heads/refs/for/coordledger/x for what is
    # meant by refs/for/coordledger/x. Such a ref may be removed, and not made.
    if deleted:
        return False
    return lower.startswith(FOR) or f"/{LEDGERS}" in lower or f"/{FOR}" in lower


def _judge_for(ref: str, *, sequenced: bool) -> None:
    if not ref.startswith(FOR) or not is_identifier(ref.removeprefix(FOR)):
        raise RuleBroken("bad-ref", ref=ref)
    if not sequenced:
        raise RuleBroken("not-sequenced", ref=ref)


def _judge_ref(old: str, new: str, ref: str, context: AdmissionContext) -> None:
    trying = ref.startswith(TRIES)
    name = ref.removeprefix(TRIES if trying else LEDGERS)
    if not is_identifier(name):
        raise RuleBroken("bad-ref", ref=ref)
    if not new.strip("0"):
        raise RuleBroken("no-delete")
    found = context.objects.find(LEDGERS + name, MAX_COMMIT_BYTES)
    if found is None:
        raise RuleBroken("no-create")
    head = parse_commit(found[0], found[2])
    if not trying and old != head.oid:
        raise RuleBroken("not-fast-forward")
    if new == head.oid:
        raise RuleBroken("bad-push", why="nothing new")
    chain = Chain(context.objects.read, context.keyring, head, algorithm(head.oid))
    for commit, content in new_commits(context.objects, new, lambda oid, _: oid == head.oid):
        parent, before = chain.head, chain.state
        try:
            verdict = chain.judge(commit.oid, content, commit)
            admit(verdict, commit.record, parent, before, context)
        except RuleBroken as broken:
            broken.data["commit"] = commit.oid  # the refusal names it: the others may come again
            raise
        context.spend(chain.rendered)
    if trying:
        raise RuleBroken("try-ok")


# -- the program


def judge(
    pushed: bytes,
    environ: dict[str, str],
    now: int,
    reader: Callable[[dict[str, str]], Reader] = Reader,
    max_gap: Callable[[dict[str, str]], int] = configured_gap,
    *,
    sequenced: bool = False,
) -> Refused | None:
    """Judge a push in the repository that `environ` names, as `judge_updates` does.

    `now` in milliseconds since 1970. Raises nothing.
    """
    try:
        if len(pushed) > MAX_INPUT:
            raise RuleBroken("too-large", what="the push", size=len(pushed), limit=MAX_INPUT)
        keyring = server_keyring(f"{environ.get('GIT_DIR', '.')}/coordledger")
        with reader(environ) as objects:
            context = AdmissionContext(objects, keyring, now, lambda: max_gap(environ))
            return judge_updates(pushed, context, sequenced=sequenced)
    except Exception as fault:  # noqa: BLE001 - fail closed, whatever it is
        return _refused("", fault)


def main(environ: dict[str, str], *, sequenced: bool = False) -> int:
    """The program of `coordledger hook pre-receive`: 0 lets the push pass, 1 refuses it."""
    pushed, now = sys.stdin.buffer.read(MAX_INPUT + 1), unix_ms()
    refused = judge(pushed, environ, now, sequenced=sequenced)
    if refused:
        sys.stderr.write(f"{refused}\n")
    return 1 if refused else 0


def start() -> NoReturn:
    """The hook's shell script runs this: `main`, without `os` and without tidying up."""
    code = main(environment(), sequenced=sys.argv[2:] == ["sequenced"])
    sys.stderr.flush()
    posix._exit(code)  # noqa: SLF001 - its public name is in os
