"""Is it a name, a path or a URL? git's rules, asked once for each remote.

Rules, all of them git's (its remote.c, connect.c and transport.c):
- A configured remote's name comes first, whatever characters it has but for a slash at its
  beginning; `url.<base>.insteadOf` then rewrites what is configured or typed.
- `helper::address` and `scheme://` are never on this machine, but for `file://`; nor is
  anything with a colon before its first slash, whatever the file system has.
- Everything else is a path, as seen from the top of the work tree.
- A push goes to each `pushurl`; where there is none, to each URL that `pushInsteadOf` rewrites;
  where there is none either, to each URL. A fetch comes from the first URL alone.

One rule is stricter than git's: a word without a slash that is no remote's name is nowhere, and
so is a path that was remembered and does not begin as one (`team/x`). git takes both for paths.
A repository's configuration can name commands, which git runs when it opens the repository; so
no folder that somebody has committed may take the place of a remote that is there no more.

Nothing here runs git; of the file system it is only asked whether a path is a directory.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from coordledger.errors import error
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FOLDER, SSH, HTTP, OTHER, NOWHERE = "folder", "ssh", "http", "other", "nowhere"
_SCHEMES = {"file": FOLDER, "http": HTTP, "https": HTTP} | dict.fromkeys(
    ("ssh", "git+ssh", "ssh+git"), SSH
)
_HELPER = r"([a-zA-Z0-9][a-zA-Z0-9+.-]*)?::"
# A remote can have these beside its URL without changing where a push goes, and how.
_HARMLESS = {"url", "fetch", "tagopt", "prune", "prunetags", "mirror", "push", "gh-resolved"}


class Address(Value):
    """Where a remote is. `given` is what was typed or configured, `name` the configured
    remote's, `url` where git reads from. `folder` is the directory of this machine that it
    names, without links; None if there is none.
    """

    given: str
    name: str | None
    url: str
    kind: str  # FOLDER, SSH, HTTP, OTHER, or NOWHERE: git must not be asked for it
    folder: str | None
    more: tuple[str, ...]  # what git's configuration says beside the URL: where a push goes, how
    opens_folders: bool  # to read or to push there, git may open a folder of this machine
    elsewhere: str | None = None  # where a push would go that is not where git reads;
    single: str = ""  # and one of both that, given by itself, is read and written there
    others: tuple[str, ...] = ()  # the names of the other remotes that are configured

    @property
    def plain(self) -> bool:
        """Whether the URL says all."""
        return not self.more

    @property
    def shown(self) -> str:
        """For people: without a password."""
        return without_password(self.given)

    @property
    def target(self) -> str:
        """The same for everything that leads to the same repository."""
        return self.folder or self.url

    @property
    def argument(self) -> str:
        """The word that git is given: a path that depends on nothing, where that says all."""
        return self.folder if self.folder and self.plain else self.given

    @property
    def is_plain_web(self) -> bool:
        """Whether it is HTTP's, and says nothing but a host, a port and a path."""
        web = r"https?://[a-zA-Z0-9.-]+(:[0-9]+)?/[!\"$->A-~]*"
        return self.plain and bool(re.fullmatch(web, self.url))

    @property
    def is_plain_connection(self) -> bool:
        """Whether it is SSH's or git's own daemon's, and says no more than where that is."""
        return self.plain and (self.kind == SSH or self.url.startswith("git://"))

    @property
    def authenticates(self) -> bool:
        """Whether the way there proves whose words come back. A helper's way is the user's."""
        url = self.url.lower().removeprefix("http::")  # git's own helper, named
        return not url.startswith(("http://", "git://"))

    def need_one_place(self) -> None:
        """What is written at one place and read at another has two winners.

        Raises `Failed`: two-addresses.
        """
        if self.elsewhere is None:
            return
        reads, pushes = without_password(self.url), without_password(self.elsewhere)
        single = without_password(self.single or "URL")
        raise error("two-addresses", remote=self.shown, reads=reads, pushes=pushes, single=single)

    def typed_in(self, folder: Path) -> str:
        """`given`, to be understood from anywhere: a path is seen from where it was typed."""
        is_path = self.kind == FOLDER and self.name is None and self.url == self.given
        if is_path and "://" not in self.given and not self.given.startswith("~"):
            return str((folder / self.given).resolve())
        return self.given


def resolve(
    given: str,
    config: Iterable[tuple[str, str]],
    base: Path | None,
    *,
    remembered: bool = False,
) -> Address:
    """`config` has the names and values of git's configuration, in its order. Relative paths
    are seen from `base`; None outside of any repository, where they lead nowhere. `remembered`:
    nobody has just typed it.
    """
    config = list(config)
    settings = _settings(given, config)
    urls = [value for key, value in settings if key == "url"]
    name = given if urls else None
    reads = [_rewritten(url, config, "insteadof", url) for url in urls or [given]]
    kind = OTHER if any(key == "vcs" for key, _ in settings) else kind_of(reads[0])
    is_word = not re.search("[/:]", given) and given not in (".", "..")
    if remembered and kind == FOLDER:
        is_word = not re.match(r"/|~|\.\.?(/|$)|file://", given)
    # An empty URL resets the list for some of git's versions.
    if "" in urls or (name is None and is_word and reads[0] == given):
        kind = NOWHERE
    more = [pair for pair in config if pair[0].startswith(("url.", "protocol."))]
    more += [(f"remote.{given}.{key}", value) for key, value in settings if key not in _HARMLESS]
    more += [(f"remote.{given}.url", url) for url in urls if len(urls) > 1]
    named = [_rewritten(v, config, "insteadof", v) for key, v in settings if key == "pushurl"]
    aliases = [_rewritten(url, config, "pushinsteadof", "") for url in urls or [given]]
    pushes = named or [url for url in aliases if url] or reads
    apart = [url for url in pushes if not _is_same_place(url, reads[0], base)]
    single = (url for url in (reads[0], *apart) if _has_one_place(url, config, base))
    possible = [*reads, *named, *aliases]
    return Address(
        given,
        name,
        reads[0],
        kind,
        _folder(reads[0], base) if kind == FOLDER else None,
        more=tuple(f"{key}={value}" for key, value in more),
        opens_folders=kind != NOWHERE and FOLDER in map(kind_of, filter(None, possible)),
        elsewhere=apart[0] if apart else None,
        single=next(single, "") if apart else "",
        others=_others(given, config),
    )


def kind_of(url: str) -> str:
    """FOLDER, SSH, HTTP or OTHER: what git makes of a URL that is no remote's name."""
    if re.match(_HELPER, url):
        return OTHER
    scheme, has_scheme, _ = url.partition("://")
    if has_scheme:
        return _SCHEMES.get(scheme, OTHER)
    return SSH if ":" in url.partition("/")[0] else FOLDER


def local_path(url: str) -> str | None:
    """The path that git opens for `url`; None if it opens none, or expands it first."""
    if kind_of(url) != FOLDER:
        return None
    path = url
    if url.startswith("file://"):
        path = _decoded(url.removeprefix("file://"))
        path = path[path.find("/") :] if "/" in path else ""  # a host is left out
    # git takes brackets at these places for a host's, wherever they are.
    if not path or path.startswith(("~", "[")) or "@[" in path:
        return None
    return path


def without_password(text: str) -> str:
    """`text` with the user's part of URLs taken out: up to the last @ before a slash."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


def _others(given: str, config: list[tuple[str, str]]) -> tuple[str, ...]:
    """The names of the remotes that have a URL, but for `given`."""
    parts = (key.removeprefix("remote.") for key, _ in config if key.startswith("remote."))
    names = (part.removesuffix(".url") for part in parts if part.endswith(".url"))
    return tuple(name for name in dict.fromkeys(names) if name != given)


def _settings(name: str, config: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The configuration of the remote of that name: keys and values."""
    if name.startswith("/"):
        return []
    parts = [(key.rpartition("."), value) for key, value in config]
    return [(key, value) for (what, _, key), value in parts if what == f"remote.{name}"]


def _rewritten(url: str, config: list[tuple[str, str]], rule: str, otherwise: str) -> str:
    """By the rule with the longest beginning, of the same ones that of the first base."""
    bases: dict[str, list[str]] = {}
    for name, value in config:
        what, _, key = name.rpartition(".")
        if what.startswith("url.") and key == rule:
            bases.setdefault(what.removeprefix("url."), []).append(value)
    fit = [(start, base) for base, starts in bases.items() for start in starts]
    fit = [(start, base) for start, base in fit if url.startswith(start)]
    if not fit:
        return otherwise
    start, base = max(fit, key=lambda one: len(one[0]))
    return base + url.removeprefix(start)


def _is_same_place(one: str, other: str, base: Path | None) -> bool:
    """Whether two URLs are known to lead to one repository.

    A host has one repository of a path, whether it is asked for by HTTP or by SSH. By one
    protocol, two ports are two servers; and two users of SSH may have folders of their own.
    """
    if one == other:
        return True
    kinds = {kind_of(one), kind_of(other)}
    if kinds == {FOLDER}:
        folders = [_folder(url, base) for url in (one, other)]
        return folders[0] is not None and folders[0] == folders[1]
    if not kinds <= {SSH, HTTP}:
        return False
    (user, host, port, path), others = _parts(one), _parts(other)
    if (host, path) != (others[1], others[3]):
        return False
    return len(kinds) == 2 or (port == others[2] and (kinds == {HTTP} or user == others[0]))


def _has_one_place(url: str, config: list[tuple[str, str]], base: Path | None) -> bool:
    """Whether git reads and writes `url`, typed as it is, at the place that it names."""
    reads = _rewritten(url, config, "insteadof", url)
    pushes = _rewritten(url, config, "pushinsteadof", reads)
    return all(_is_same_place(url, one, base) for one in (reads, pushes))


def _parts(url: str) -> tuple[str, str, str, str]:
    """User, host, port and path of a URL of SSH or HTTP."""
    scheme, has_scheme, rest = url.partition("://")
    if has_scheme:
        at, _, path = rest.partition("/")
    else:  # as scp has it
        at, _, path = url.partition(":")
    user, _, host = at.rpartition("@")
    host, _, port = host.lower().partition(":")
    port = port or {"http": "80", "https": "443"}.get(scheme, "22")
    return user, host, port, path.strip("/").removesuffix(".git")


def _folder(url: str, base: Path | None) -> str | None:
    path = local_path(url)
    if path is None or (base is None and not path.startswith("/")):
        return None
    path = os.path.join(base or "", path)  # noqa: PTH118
    return os.path.realpath(path) if os.path.isdir(path) else None  # noqa: PTH112


def _decoded(text: str) -> str:
    raw = os.fsencode(text)
    decoded = re.sub(rb"%([0-9a-fA-F]{2})", lambda m: bytes.fromhex(m[1].decode("ascii")), raw)
    return os.fsdecode(decoded) if b"\0" not in decoded else ""
