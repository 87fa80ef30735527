"""Talk to the remote, over any URL that git understands.

Rules: credentials, proxies, ssh commands, CA files and insteadOf are git's business,
so git does it: `git push`, `git fetch`. Where git would do nothing but start
`git receive-pack` or `git upload-pack` in a folder of this machine, modules of these names do.
Where git would do nothing but speak HTTP, `http` does, on one connection for all of it. What
leaves trees out is no `git fetch` anywhere: that would make the clone a partial one (`news`).

A push is a compare-and-swap of one ref; `outcome` says how it ended. It knows refs and ids,
and nothing of records.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger.errors import Failed, error
from coordledger.git import refs
from coordledger.git.address import HTTP
from coordledger.git.outcome import (
    LOST,
    REFUSED,
    UNKNOWN,
    UNSENT,
    WON,
    Move,
    Push,
    from_porcelain,
    from_report,
    planned,
)
from coordledger.git.process import Ran, untrusted
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordledger.errors import CoordledgerError
    from coordledger.git.address import Address
    from coordledger.git.http import SmartHttp
    from coordledger.git.outcome import PushPayload
    from coordledger.git.process import Git

_NO_UPKEEP = ("-c", "maintenance.auto=false", "-c", "gc.auto=0")
_NO_OPTIONS = ("-c", "push.pushOption=")  # the user's are for code; most servers take none
_ABSENT = ("couldn't find remote ref", "could not find remote ref")
# git says so, too, where another process of this clone moves the refs that a fetch checks against.
_INCOMPLETE = "did not send all necessary objects"
_TRIES_AMONG_OTHERS = 3
_NO_CONNECTION = "Could not read from remote repository"


class News(Value):
    """The id that a ref has, or None; and the commits below it that are new, by their ids, or None
    where they cannot be had alone.
    """

    head: str | None
    commits: dict[str, bytes] | None = None


def _id_or_none(oid: str) -> str:
    """An id as git's options have it: none is empty, and not all zeros."""
    return oid if oid.strip("0") else ""


def _is_seen(value: str, seen: str | None) -> bool:
    """Whether a ref's value begins as git has shown it; "" is none."""
    return seen is None or (value.startswith(seen) if seen else not value)


class Remote:
    """One remote as seen from one repository (or from none)."""

    def __init__(
        self, git: Git, address: Address, http: tuple[str, str | None] | None = None
    ) -> None:
        """`http` (URL and CA file) is where it leads, if git would do nothing else on the way."""
        self._git, self.address, self.shown = git, address, address.shown
        self.folder = address.folder if address.plain else None
        self._http_at = http
        self._http: SmartHttp | None = None
        self.told = False  # whether the newest push of more refs than one was said to have won

    def close(self) -> None:
        if self._http:
            self._http.close()

    def _web(self, url: str, ca_file: str | None) -> SmartHttp:
        from coordledger.git.http import SmartHttp  # noqa: PLC0415 - 20 ms

        if self._http is None:
            self._http = SmartHttp(self._git, url, ca_file)
        return self._http

    def _run(self, *args: str, hooks: str | None = os.devnull, **environ: str) -> Ran:
        """As `Git.run`, of a command that speaks to the remote; one that is no folder of this
        machine is never looked for in one.
        """
        opens = self.address.opens_folders
        run = self._git.run if opens else self._git.run_without_folders
        return run(*args, hooks=hooks, **environ)

    @property
    def _no_mirror(self) -> list[str]:
        """A remote of the user's that mirrors takes single refs all the same."""
        name = self.address.name
        return ["-c", f"remote.{name}.mirror=false"] if name else []

    @property
    def _as_tracked(self) -> tuple[list[str], str]:
        """Options, if any, and the word for a push by which git also brings forward what follows
        the remote's refs here: that it does for a remote's name, and not for a path.
        """
        name, word = self.address.name, self.address.argument
        if name and word == self.address.folder:
            return ["-c", f"remote.{name}.pushurl={word}"], name
        return [], word

    @property
    def head_is_cheap(self) -> bool:
        """Whether to ask it something takes less than a connection that is made for it."""
        return bool(self.folder or self._http_at)

    def head(self, ref: str) -> str | None:
        """The id that `ref` has there, or None. Raises `Failed`: remote-unreachable, …"""
        if self.folder:
            from coordledger.git import upload_pack  # noqa: PLC0415 - only a folder has it
            from coordledger.git.pktline import ProtocolError  # noqa: PLC0415

            with contextlib.suppress(ProtocolError):  # git says it better
                return upload_pack.head(self._git, self.folder, ref)
        if self._http_at:
            from coordledger.git.http import Unsent  # noqa: PLC0415 - 20 ms

            with contextlib.suppress(Unsent):
                return self._web(*self._http_at).head(ref)
        ran = self._run("ls-remote", "--quiet", "--", self.address.argument, ref)
        if ran.code:
            raise self._unreachable(ran)
        for line in ran.out.splitlines():
            oid, _, name = line.partition("\t")
            if name == ref:
                return oid
        return None

    def news(self, ref: str, have: str, objects: str) -> News | None:
        """What `ref` has there, and the commits beyond `have`, if they can be had without their
        trees; None where git is to fetch. `objects` is the folder that has those of `have`.
        Raises `Failed`: remote-unreachable, timeout, no-git.
        """
        from coordledger.git.pktline import ProtocolError  # noqa: PLC0415 - one way of three

        with contextlib.suppress(ProtocolError):
            if self.folder:
                from coordledger.git import upload_pack  # noqa: PLC0415

                return upload_pack.news(self._git, self.folder, ref, have)
            if self._http_at:
                return self._news_by_http(*self._http_at, ref, have)
            if self.address.is_plain_connection:
                return self._news_by_git(ref, have, objects)
        return None

    def _news_by_http(self, url: str, ca_file: str | None, ref: str, have: str) -> News:
        from coordledger.git.http import Unsent  # noqa: PLC0415 - 20 ms

        with contextlib.suppress(Unsent):
            return self._web(url, ca_file).news(ref, have)
        return News(self.head(ref))

    def _news_by_git(self, ref: str, have: str, objects: str) -> News | None:
        from coordledger.git import fetch_pack  # noqa: PLC0415 - as above

        found = fetch_pack.news(self._run, self.address.url, ref, have, objects)
        if isinstance(found, News):
            return found
        if _NO_CONNECTION in found.err:
            raise self._unreachable(found)
        return None

    def stamp(self, ref: str) -> object:
        """What is another whenever `ref` has moved there, and takes no program to be looked at;
        None where it is no folder of this machine.
        """
        return refs.stamp(self.folder, ref) if self.folder else None

    def need_listing(self) -> None:
        """Whether there is a repository behind an address that has not got what was asked for.

        An empty page of a proxy looks to git like a repository without any ref.

        Raises `Failed`: remote-unreachable.
        """
        if self.address.kind != HTTP or (self._http and self._http.advertises):
            return
        ran = self._run("ls-remote", "--quiet", "--", self.address.argument)
        if ran.code:
            raise self._unreachable(ran)
        if not ran.out.strip():
            why = "it answers, but lists nothing: it may be no git server"
            raise error("remote-unreachable", remote=self.shown, why=why)

    def listing(self, below: str) -> dict[str, str]:
        """The refs that the remote has below a folder, named without it, and their ids. Raises
        `Failed`: remote-unreachable.
        """
        ran = self._run("ls-remote", "--quiet", "--", self.address.argument, f"{below}*")
        if ran.code:
            raise self._unreachable(ran)
        found = (line.partition("\t") for line in ran.out.splitlines())
        return {ref.removeprefix(below): oid for oid, _, ref in found if ref.startswith(below)}

    def fetch(self, ref: str, into: str, depth: int | None) -> bool:
        """Bring `ref` here as `into`; False if there is none.

        Nothing else of the repository changes: no tags, no FETCH_HEAD, no upkeep; and a
        partial clone's filter does not keep the state away.
        """
        shallow = [f"--depth={depth}"] if depth else []
        flags = "--quiet --no-tags --no-write-fetch-head --no-recurse-submodules --no-prune"
        fetch = (
            *_NO_UPKEEP,
            "fetch",
            *flags.split(),
            "--no-filter",
            "--refmap=",
            *shallow,
            "--",
            self.address.argument,
            f"+{ref}:{into}",
        )
        ran = self._run(*fetch)
        for _ in range(_TRIES_AMONG_OTHERS):
            if not (ran.code and _INCOMPLETE in ran.err):
                break
            ran = self._run(*fetch)
        if ran.code and any(text in ran.err for text in _ABSENT):
            return False
        if ran.code:
            raise self._unreachable(ran)
        return True

    def _unreachable(self, ran: Ran) -> CoordledgerError:
        if "mismatched algorithms" in ran.err:
            what = f"another object format than this clone ({ran.why()})"
            return error("object-format", path=self.shown, what=what)
        untrusting = untrusted(ran.err)
        return untrusting or error("remote-unreachable", remote=self.shown, why=ran.why())

    def push(
        self,
        ref: str,
        old: str | None,
        new: str | None,
        payload: PushPayload | None = None,
        moves: Sequence[Move] = (),
    ) -> Push:
        """Move `ref` there from `old` to `new`; None means that it does not exist.

        Without `payload` git finds out what is new there, in this repository. The `moves` of other
        refs happen with it, all or nothing. An OSError of our own disk is raised before anything
        is sent, and never afterwards; as is `Failed`: two-addresses.
        """
        self.address.need_one_place()
        if moves and payload:  # git knows what of the code is new there
            payload.ready()
            payload.store()
            push = self._push_by_git(ref, old, new, moves)
            self.told = push.outcome == WON
            return push
        if payload and self.folder:
            from coordledger.git import receive_pack  # noqa: PLC0415 - without a push there is none

            return receive_pack.push(self._git, self.folder, ref, old, new, payload)
        if payload:
            payload.ready()
            done = self._http_at and self._push_http(*self._http_at, ref, old, new, payload)
            if done:
                return done
            payload.store()
        return self._push_by_git(ref, old, new)

    def plan(self, refspecs: Sequence[str]) -> list[Move]:
        """What `git push` would do with these refspecs now; the user's pre-push hook has its say.

        Raises `Failed`: code-moved, code-refused, remote-unreachable.
        """
        flags = "--dry-run --porcelain --no-follow-tags --recurse-submodules=no"
        given = ("push", *flags.split(), "--", self.address.argument, *refspecs)
        for _ in range(_TRIES_AMONG_OTHERS):
            wanted = planned(self._run(*_NO_OPTIONS, *self._no_mirror, *given, hooks=None))
            there = self.values(list(wanted)) if wanted else {}
            # Else git has let it pass for another value than the one that it would be forced on.
            if all(_is_seen(there.get(ref, ""), seen) for ref, (_, seen) in wanted.items()):
                break
        else:
            raise error("code-moved", why=", ".join(wanted))
        moves = []
        for ref, (source, _) in wanted.items():
            new = self._git.output("rev-parse", "--verify", source).strip() if source else ""
            none = "0" * len(new or there.get(ref, ""))
            moves.append(Move(ref, there.get(ref, none), new or none))
        return [move for move in moves if move.old != move.new]

    def values(self, refs: Sequence[str]) -> dict[str, str]:
        """The ids that refs have there, those that exist. Raises `Failed`: remote-unreachable."""
        listed = self._run("ls-remote", "--quiet", "--", self.address.argument, *refs)
        if listed.code:
            raise self._unreachable(listed)
        lines = (line.partition("\t") for line in listed.out.splitlines())
        return {ref: oid for oid, _, ref in lines if ref in refs}

    @property
    def speaks_http(self) -> bool:
        """Whether this process speaks HTTP with it, and not git."""
        return bool(self._http_at)

    def swaps_without_comparing(self, ref: str, stale: str, current: str, pack: bytes) -> bool:
        """Whether the server says yes to a push of `current`, which `ref` has, with another old
        value: then two pushes can win one race. Where git itself pushes, it compares.
        """
        if not self._http_at:
            return False
        from coordledger.git.http import Later, Refused, Unknown, Unsent  # noqa: PLC0415

        try:
            web = self._web(*self._http_at)
            report = web.push(ref, stale, current, pack, blindly=True)
        except (Later, Refused, Unknown, Unsent):
            return False
        return report is not None and report.refs.get(ref, "no") is None

    def _push_by_git(
        self, ref: str, old: str | None, new: str | None, moves: Sequence[Move] = ()
    ) -> Push:
        """Its pre-push hook, which it runs before it sends anything, tells whether it began to."""
        import tempfile  # noqa: PLC0415 - which imports much, and is not always needed

        with tempfile.TemporaryDirectory(
            prefix="coordledger-", ignore_cleanup_errors=True
        ) as folder:
            sent = Path(folder, "sent")
            hook = Path(folder, "pre-push")
            hook.write_text(f'#!/bin/sh\n: > "{sent}"\n')
            hook.chmod(0o700)
            flags = "--porcelain --no-follow-tags --recurse-submodules=no"
            flags += " --atomic" if moves else ""
            options, where = self._as_tracked if moves else ([], self.address.argument)
            whole = [(ref, old or "", new or "")]
            whole += [(one.ref, _id_or_none(one.old), _id_or_none(one.new)) for one in moves]
            try:
                ran = self._run(
                    *_NO_OPTIONS,
                    *self._no_mirror,
                    *options,
                    "push",
                    *flags.split(),
                    *(f"--force-with-lease={ref}:{old}" for ref, old, _ in whole),
                    "--",
                    where,
                    *(f"{new}:{ref}" for ref, _, new in whole),
                    hooks=folder,
                )
            except Failed as fault:  # our deadline ended git in the middle of it
                ran = Ran(-1, "", fault.message)
            # Where git could not run the hook (a noexec mount), its silence proves nothing.
            was_sent = sent.exists() or not os.access(hook, os.X_OK)
            return from_porcelain(ran, ref, new, moves, sent=was_sent)

    def _push_http(
        self,
        url: str,
        ca_file: str | None,
        ref: str,
        old: str | None,
        new: str | None,
        payload: PushPayload,
    ) -> Push | None:
        """None: nothing has moved, and git is to do it."""
        web = self._web(url, ca_file)
        from coordledger.git.http import Later, Refused, Unknown, Unsent  # noqa: PLC0415

        try:
            report = web.push(ref, old, new, payload.pack(), payload.meanwhile)
        except Unsent:
            return None
        except Unknown as fault:
            return Push(UNKNOWN, str(fault))
        except Refused as fault:
            return Push(REFUSED, str(fault), kept_out=True)
        except Later as later:
            outcome = UNKNOWN if later.sent else UNSENT
            return Push(outcome, str(later), later=later.seconds)
        return from_report(report, ref) if report else Push(LOST, "another head is there")
