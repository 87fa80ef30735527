"""Talk to the remote, over any URL that git understands.

Rules: credentials, proxies, ssh commands, CA files and insteadOf are git's business,
so git does it: `git push`, `git fetch`. Where git would do nothing but start
`git receive-pack` in a folder of this machine, we start it ourselves (`direct`): a third
of the time, and its advertisement tells the head before anything is sent. Where git would
do nothing but speak HTTP, `smart_http` does, on one connection for all pushes.

A push is a compare-and-swap of one ref. Its outcome is never guessed: `lost` and `refused`
only on the remote's (or our own git's) complete word; `unsent` only if it is known that
nothing was sent (git runs its pre-push hook before it sends); everything else is
`unknown`. It knows refs and ids, and nothing of records.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from coordledger.errors import ERRORS, Failed, error
from coordledger.git import push_protocol
from coordledger.git.process import Ran

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coordledger.errors import CoordledgerError
    from coordledger.git.address import Address
    from coordledger.git.http import SmartHttp
    from coordledger.git.process import Git, Service

WON, LOST, REFUSED, UNSENT, UNKNOWN = "won", "lost", "refused", "unsent", "unknown"

_NO_UPKEEP = ("-c", "maintenance.auto=false", "-c", "gc.auto=0")
_NO_OPTIONS = ("-c", "push.pushOption=")  # the user's are for code; most servers take none
# How git's versions say that somebody else's push came first.
_RACES = (
    "stale info",
    "fetch first",
    "non-fast-forward",
    "failed to update ref",
    "incorrect old value provided",
    "reference already exists",
    "cannot lock ref",
    "failed to lock",
    "needs force",
)
_ABSENT = ("couldn't find remote ref", "could not find remote ref")
_REFUSED, _LANDED = "coordledger: refused ", "coordledger: landed "
_SEQUENCED = "coordledger: sequenced"


class Push(NamedTuple):
    """How a push ended. `code` is the hook's slug if the hook spoke, `why` for people,
    `blamed` the first digits of the commit that it refused. `landed` tells where commits
    have got to that somebody else put into their places: id as pushed -> seq, id.
    """

    outcome: str
    why: str = ""
    code: str = ""
    locked: bool = False
    blamed: str = ""
    landed: Mapping[str, tuple[int, str]] | None = None
    sequenced: bool = False  # the server says that it sequences


class PushPayload(NamedTuple):
    """What a push brings, and what is to be done here on its way.

    `pack()` gives a pack of what is new there. `ready()` is called before anything is sent,
    maybe while the remote's program starts; it may raise OSError or `Integrity`. `store()`
    brings it into this repository, for git's own push, and may raise as well. `meanwhile()` is
    called while the remote is busy, and raises nothing.
    """

    pack: Callable[[], bytes]
    ready: Callable[[], None]
    repository: Callable[[], None]
    meanwhile: Callable[[], None]


class Remote:
    """One remote as seen from one repository (or from none)."""

    def __init__(
        self,
        git: Git,
        address: Address,
        http: tuple[str, str | None] | None = None,
    ) -> None:
        """`http` (URL and CA file) is where it leads, if git would do nothing else on the way."""
        self._git, self.address, self.shown = git, address, address.shown
        self.folder = address.folder if address.plain else None
        self._http_at = http
        self._http: SmartHttp | None = None

    def close(self) -> None:
        if self._http:
            self._http.close()

    def _web(self, url: str, ca_file: str | None) -> SmartHttp:
        from coordledger.git.http import SmartHttp  # noqa: PLC0415 - 20 ms

        if self._http is None:
            self._http = SmartHttp(self._git, url, ca_file)
        return self._http

    def need_same_address(self) -> None:
        """Git looks a remote's name up again, and takes a name that it does not know for a path.

        Raises `Failed`: bad-config, if this repository's configuration has another one there.
        """
        address = self.address
        if address.argument != address.name or not address.opens_folders:
            return  # a path, which is the same everywhere, or `_run` sees to it
        seen = self._git.run("ls-remote", "--get-url", "--", address.name).out
        if seen.removesuffix("\n") != address.url:
            why = "this repository has another remote of that name"
            raise error("bad-config", key=f"remote.{address.name}.url", why=why)

    def _run(self, *args: str, hooks: str | None = os.devnull) -> Ran:
        """As `Git.run`, of a command that speaks to the remote; one that is no folder of this
        machine is never looked for in one.
        """
        opens = self.address.opens_folders
        return (self._git.run if opens else self._git.run_without_folders)(*args, hooks=hooks)

    @property
    def _no_mirror(self) -> list[str]:
        """A remote of the user's that mirrors takes single refs all the same."""
        name = self.address.name
        return ["-c", f"remote.{name}.mirror=false"] if name else []

    @property
    def head_is_cheap(self) -> bool:
        """Whether to ask it something takes less than a connection that is made for it."""
        return bool(self.folder or self._http_at)

    def head(self, ref: str) -> str | None:
        """The id that `ref` has there, or None. Raises `Failed`: remote-unreachable, …"""
        if self.folder:
            with (
                contextlib.suppress(push_protocol.BadWire),  # git says it better
                self._git.service("upload-pack", self.folder) as service,
            ):
                there = _advertised(service)
                service.finish(push_protocol.FLUSH)
                return there.refs.get(ref)
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

    def names(self, below: str) -> list[str]:
        """The refs that the remote has below a folder, without it."""
        ran = self._run("ls-remote", "--quiet", "--", self.address.argument, f"{below}*")
        refs = (line.partition("\t")[2] for line in ran.out.splitlines())
        return sorted(ref.removeprefix(below) for ref in refs if ref.startswith(below))

    def fetch(self, ref: str, into: str, depth: int | None) -> bool:
        """Bring `ref` here as `into`; False if there is none.

        Nothing else of the repository changes: no tags, no FETCH_HEAD, no upkeep; and a
        partial clone's filter does not keep the state away.
        """
        shallow = [f"--depth={depth}"] if depth else []
        flags = "--quiet --no-tags --no-write-fetch-head --no-recurse-submodules --no-prune"
        ran = self._run(
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
        if ran.code and any(text in ran.err for text in _ABSENT):
            return False
        if ran.code:
            raise self._unreachable(ran)
        return True

    def _unreachable(self, ran: Ran) -> CoordledgerError:
        if "mismatched algorithms" in ran.err:
            what = f"another object format than this clone ({ran.why()})"
            return error("object-format", path=self.shown, what=what)
        return error("remote-unreachable", remote=self.shown, why=ran.why())

    def push(
        self, ref: str, old: str | None, new: str | None, cargo: PushPayload | None = None
    ) -> Push:
        """Move `ref` there from `old` to `new`; None means that it does not exist.

        Without `cargo` git finds out what is new there, in this repository. An OSError of our
        own disk is raised before anything is sent, and never afterwards.
        """
        if cargo and self.folder:
            return self._push_direct(self.folder, ref, old, new, cargo)
        if cargo:
            cargo.ready()
            done = self._http_at and self._push_http(*self._http_at, ref, old, new, cargo)
            if done:
                return done
            cargo.repository()
        import tempfile  # noqa: PLC0415 - which imports much, and is not always needed

        with tempfile.TemporaryDirectory(
            prefix="coordledger-", ignore_cleanup_errors=True
        ) as folder:
            sent = Path(folder, "sent")
            hook = Path(folder, "pre-push")
            hook.write_text(f'#!/bin/sh\n: > "{sent}"\n')
            hook.chmod(0o700)
            flags = "--porcelain --no-follow-tags --recurse-submodules=no"
            try:
                ran = self._run(
                    *_NO_OPTIONS,
                    *self._no_mirror,
                    "push",
                    *flags.split(),
                    f"--force-with-lease={ref}:{old or ''}",
                    "--",
                    self.address.argument,
                    f"{new or ''}:{ref}",
                    hooks=folder,
                )
            except Failed as fault:  # our deadline ended git in the middle of it
                ran = Ran(-1, "", fault.message)
            # Where git could not run the hook (a noexec mount), its silence proves nothing.
            return _outcome(ran, ref, new, sent=sent.exists() or not os.access(hook, os.X_OK))

    def _push_direct(
        self, folder: str, ref: str, old: str | None, new: str | None, cargo: PushPayload
    ) -> Push:
        sent = False
        try:
            with self._git.service("receive-pack", folder) as service:
                cargo.ready()
                pack = cargo.pack()
                there = _advertised(service)
                if there.refs.get(ref) != old:
                    with contextlib.suppress(Failed):
                        service.finish(push_protocol.FLUSH)
                    return Push(LOST, "another head is there")
                asked = push_protocol.request(there, [(old, new, ref)], pack)
                if service.fits(asked):
                    sent = True
                    service.say(asked)
                    asked = b""
                cargo.meanwhile()
                sent = True
                answer, errors = service.finish(asked)
                report = push_protocol.report(answer, there)
        except (Failed, push_protocol.BadWire) as fault:
            return Push(UNKNOWN if sent else UNSENT, str(fault))
        return _reported(report, ref, errors)

    def _push_http(
        self,
        url: str,
        ca_file: str | None,
        ref: str,
        old: str | None,
        new: str | None,
        cargo: PushPayload,
    ) -> Push | None:
        """None: nothing has moved, and git is to do it."""
        web = self._web(url, ca_file)
        from coordledger.git.http import Unknown, Unsent  # noqa: PLC0415

        try:
            report = web.push(ref, old, new, cargo.pack(), cargo.meanwhile)
        except Unsent:
            return None
        except Unknown as fault:
            return Push(UNKNOWN, str(fault))
        return _reported(report, ref) if report else Push(LOST, "another head is there")


def _advertised(service: Service) -> push_protocol.Advertisement:
    """What receive-pack begins with. Raises `BadWire`, `Failed`: timeout."""
    lines: list[bytes] = []
    rest = b""
    while True:
        more = service.read()
        rest += more
        whole, end = push_protocol.packets(rest)
        lines += whole
        rest = rest[sum(4 + len(line) for line in whole) :]  # read once: there may be many refs
        if end is not None:
            return push_protocol.advertisement(lines)
        if not more:
            _, errors = service.finish()
            raise push_protocol.BadWire(Ran(-1, "", errors).why())


def _reported(report: push_protocol.Report, ref: str, errors: str = "") -> Push:
    if ref not in report.refs:
        return Push(UNKNOWN, "the report says nothing of the ref")
    reason, printed = report.refs[ref], report.printed.splitlines()
    if reason is None:
        return _won(printed)
    return _refusal(reason, printed, errors + report.printed)


def _outcome(ran: Ran, ref: str, new: str | None, *, sent: bool) -> Push:
    for line in ran.out.splitlines():
        flag, _, rest = line.partition("\t")
        names, _, summary = rest.partition("\t")
        # One refspec was pushed; where it is sequenced, git prints the name that it got.
        if not (names.endswith(f":{ref}") or (new and names.startswith(f"{new}:"))):
            continue
        if flag in (" ", "*", "+", "-", "="):
            # The remote has it; whatever went wrong afterwards cannot undo that.
            return _won(_remote_lines(ran))
        reason = summary.partition("(")[2].rpartition(")")[0] or summary
        push = _refusal(reason, _remote_lines(ran), ran.err)
        if push.outcome == LOST:
            return push
        if summary.startswith(("[remote rejected]", "[rejected]", "[no match]")):
            return push
    if not sent:
        return Push(UNSENT, ran.why())
    return Push(UNKNOWN, ran.why())


def _won(printed: list[str]) -> Push:
    landed = {}
    for line in printed:
        words = line.removeprefix(_LANDED).split() if line.startswith(_LANDED) else []
        if len(words) == 3 and words[1].isdecimal():
            landed[words[0]] = (int(words[1]), words[2])
    return Push(WON, landed=landed or None, sequenced=_SEQUENCED in printed)


def _refusal(reason: str, printed: list[str], errors: str) -> Push:
    """A complete "no": `reason` is git's, `printed` the lines of the remote's hooks."""
    blamed, code, why = _hook_said(printed)
    says = _SEQUENCED in printed
    # What is there already has landed by another way: to be looked for, as after a lost race.
    if code in ("not-fast-forward", "replayed") or any(text in reason for text in _RACES):
        return Push(LOST, reason, locked=".lock': File exists" in errors, sequenced=says)
    why = why or next((line for line in printed if line), "") or reason
    return Push(REFUSED, why, code, blamed=blamed, sequenced=says)


def _remote_lines(ran: Ran) -> list[str]:
    lines = (line.strip() for line in ran.err.splitlines())
    return [line.removeprefix("remote:").strip() for line in lines if line.startswith("remote:")]


def _hook_said(printed: list[str]) -> tuple[str, str, str]:
    """Commit, slug and sentence of the hook's refusal, or three empty strings."""
    for line in printed:
        if line.startswith(_REFUSED):
            blamed, _, rest = line.removeprefix(_REFUSED).partition(": ")
            code, _, why = rest.partition(": ")
            return (blamed, code, why) if code in ERRORS else (blamed, "", rest)
    return "", "", ""
