"""The settings: options, environment and git's configuration, read into one object.

Rules: options win over the environment, the environment over git's configuration, that over
the defaults: `SETTINGS` is the table. They are read once, and the object is frozen; nothing
else in coordledger looks at the environment, but `secrets` for secrets. Unknown keys below
`coordledger.` are reported.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger.errors import error
from coordledger.format.names import is_agent, is_identifier
from coordledger.git import address
from coordledger.hashes import digest
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from coordledger.git.address import Address
    from coordledger.git.process import Git

PREFIX = "coordledger."  # of the names in git's configuration
# What git is asked for its configuration: what matters to us.
GIT_CONFIG = (
    *("config", "--null", "--get-regexp"),
    (
        r"^((coordledger|remote|url|protocol|http|push)\."
        r"|core\.(sshcommand|gitproxy|sharedrepository|ignorecase)$)"
    ),
)
_TRUE = ("on", "true", "yes", "1")


class Options(Value):
    """The caller's choices; None for what was not chosen. `timeout` in seconds."""

    path: Path = Path()
    agent: str | None = None
    session: str | None = None
    remote: str | None = None
    ledger: str | None = None
    branch: str | None = None
    timeout: float = 30.0
    offline: bool = False
    ssh_key: str | None = None


class Settings(Value):
    """Everything that was decided before the first look at the ledger."""

    path: Path
    environ: Mapping[str, str]
    agent: str | None
    base_agent: str | None  # whose session this is: `agent` may be its delegate, see `session_keys`
    configured_agent: str | None  # whatever the caller and the environment say
    session: str | None
    harness_session: str | None  # of the harness around this process; `session` wins
    remote: Address
    ledger: str
    names_ledger: bool  # whether somebody has named the ledger
    ssh_key: str | None
    branch: str | None
    channels: tuple[str, ...] | None  # those that the inbox shows, or all
    timeout: float
    offline: bool
    queue: bool  # whether to line up with this user's other processes
    direct: bool  # whether to take the server's part where that is this account's folder
    on_session_end: str
    session_keys: bool  # whether each session of a harness signs by a key of its own
    unknown_keys: tuple[str, ...]
    plain_http: bool  # git speaks HTTP as it does by default, but for the CA file
    ca_file: str | None
    transport_settings: tuple[str, ...]  # how a push goes there, beside the URL
    config_dir: Path
    cache_dir: Path
    folder_mode: int  # of what is kept in the repository: its user's alone, or shared as it is
    folds_case: bool  # whether `A` and `a` are one file of the work tree

    def __repr__(self) -> str:  # secrets may be in the environment
        return f"Settings({self.path})"

    @property
    def need_agent(self) -> str:
        """The agent. Raises `Failed`: no-agent."""
        if self.agent is None:
            raise error("no-agent")
        return self.agent

    @property
    def names(self) -> tuple[str, ...]:
        """Those whose messages are this session's, the one that signs first. Raises as above."""
        return tuple(dict.fromkeys((self.need_agent, self.base_agent or self.need_agent)))


def _name(code: str, good: Callable[[object], bool] = is_identifier) -> Callable[[str], str]:
    """A parser of names. It raises `Failed` with this code."""

    def parse(text: str) -> str:
        if not good(text):
            raise error(code, value=text)
        return text

    return parse


def _channels(text: str) -> tuple[str, ...]:
    """Names between commas or blanks. Raises `Failed`: bad-channel."""
    return tuple(map(_name("bad-channel"), text.replace(",", " ").split()))


def _on_or_off(key: str) -> Callable[[str], bool]:
    """A parser of truth values, as git writes them. It raises `Failed`: bad-config."""
    words = dict.fromkeys(_TRUE, True)
    words |= {"off": False, "false": False, "no": False, "0": False}

    def parse(text: str) -> bool:
        if text.lower() not in words:
            raise error("bad-config", key=PREFIX + key, why=f"{text} is neither on nor off")
        return words[text.lower()]

    return parse


class Setting(Value):
    """`name`: of the option and, below `coordledger.` and without `_`, in git's configuration;
    `variable`: the environment's. `parse` makes its value of a text, or raises `Failed`.
    """

    name: str
    variable: str | None
    default: str | None
    parse: Callable[[str], Any]

    @property
    def key(self) -> str:
        """As git gives it."""
        return self.name.replace("_", "")


RELEASE, KEEP = "release", "keep"  # what a harness's session held, when it ends


def _at_end(text: str) -> str:
    """Raises `Failed`: bad-config."""
    if text not in (RELEASE, KEEP):
        raise error("bad-config", key="coordledger.onSessionEnd", why="it is release or keep")
    return text


LEDGER = Setting("ledger", "COORDLEDGER_LEDGER", "main", _name("bad-ledger"))
DEFAULT_REMOTE = "origin"
REMOTE = Setting("remote", "COORDLEDGER_REMOTE", DEFAULT_REMOTE, str)
AGENT = Setting("agent", "COORDLEDGER_AGENT", None, _name("bad-agent", is_agent))
SSH_KEY = Setting("ssh_key", "COORDLEDGER_SSH_KEY", None, str)
SETTINGS = (
    AGENT,
    Setting("session", "COORDLEDGER_SESSION", None, _name("bad-session")),
    LEDGER,
    REMOTE,
    SSH_KEY,
    Setting("branch", None, None, str),
    Setting("channels", None, None, _channels),
    Setting("queue", "COORDLEDGER_QUEUE", "on", _on_or_off("queue")),
    Setting("direct", "COORDLEDGER_DIRECT", "on", _on_or_off("direct")),
    Setting("on_session_end", None, RELEASE, _at_end),
    Setting("session_keys", None, "off", _on_or_off("sessionKeys")),
)
SERVER_KEYS = {"maxgap", "sequence"}  # of the repository that it serves, in its configuration


def config_dir(environ: Mapping[str, str]) -> Path:
    """Where the user's own files are: secrets, masters, the set-up outside of repositories."""
    if environ.get("XDG_CONFIG_HOME"):
        return Path(environ["XDG_CONFIG_HOME"], "coordledger")
    if not _has_home(environ):
        return _homeless(environ) / "config"
    folder = _of_user(environ, ".config", "user_config_path")
    usable = os.access(folder, os.F_OK) or _can_be_made(folder)
    return folder if usable else _homeless(environ) / "config"


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Where copies and queues are, which can be made anew."""
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"], "coordledger")
    if not _has_home(environ):
        return _homeless(environ) / "cache"
    folder = _of_user(environ, ".cache", "user_cache_path")
    return folder if _can_be_made(folder) else _homeless(environ) / "cache"


def _of_user(environ: Mapping[str, str], on_linux: str, kind: str) -> Path:
    """The user's folder of that kind: on Linux `on_linux`; of others platformdirs knows it."""
    home = environ.get("HOME")
    if home and sys.platform == "linux":
        return Path(home, on_linux, "coordledger")
    import platformdirs  # noqa: PLC0415 - it takes 4 ms to import

    folder: Path = getattr(platformdirs, kind)("coordledger", appauthor=False)
    return folder


def _has_home(environ: Mapping[str, str]) -> bool:
    """Whether the user is said to have a home: containers run as users that no file knows."""
    if environ.get("HOME"):
        return True
    import pwd  # noqa: PLC0415 - where the environment says nothing

    try:
        return bool(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return False


def _can_be_made(folder: Path) -> bool:
    there = next(one for one in (folder, *folder.parents) if os.access(one, os.F_OK))
    return os.access(there, os.W_OK | os.X_OK)


def _homeless(environ: Mapping[str, str]) -> Path:
    """The folder of a user without a home, which lasts as long as the machine or the container.

    Raises `Failed`: secret-exposed, if somebody else has made it.
    """
    folder = Path(environ.get("TMPDIR") or "/tmp", f"coordledger-{os.geteuid()}")  # noqa: S108
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        facts = folder.lstat()
        private = stat.S_ISDIR(facts.st_mode) and not facts.st_mode & 0o077
        if not private or facts.st_uid != os.geteuid():
            why = "it is no folder of this user's alone"
            raise error("secret-exposed", path=folder, why=why, fix="export HOME=DIR") from None
    except OSError:  # a system that cannot be written: there is nothing to be read here either
        pass
    return folder


# Harnesses, and the variables in which each tells the shells that it starts which session that is.
HARNESSES = {
    "claude": ("CLAUDE_CODE_SESSION_ID",),
    "codex": ("CODEX_THREAD_ID", "CODEX_SESSION_ID"),
    "opencode": ("OPENCODE_SESSION_ID",),
}
_TAIL = 8  # characters: 32 bits, which in ids of every kind are random at the end


def harness_session(environ: Mapping[str, str]) -> str | None:
    """The session that the harness around this process tells of, as an identifier: `claude-` and
    the end of its id. One in another is told from both.
    """
    said = {
        name: next(filter(None, map(environ.get, variables)), "")
        for name, variables in HARNESSES.items()
    }
    names, ids = [name for name, one in said.items() if one], [one for one in said.values() if one]
    if not ids:
        return None
    tail = ids[0][-_TAIL:]
    is_plain = len(ids) == 1 and len(ids[0]) > _TAIL and set(tail) <= set("0123456789abcdef")
    if not is_plain:
        tail = digest("sha256", "\n".join(ids).encode("utf-8", "replace")).hex()[:_TAIL]
    return "-".join((*names, tail))


class Host(Value):
    """The bare repository around the path: where nothing else is said it is the remote itself,
    and who works there is the owner of the ledger.

    `is_served`: it has a server's secrets. `owner` gives the owner of the ledger of that name.
    """

    path: Path
    is_served: bool
    owner: Callable[[str], str | None]


def load(
    options: Options,
    environ: Mapping[str, str],
    git: Git,
    base: Path | None,
    host: Host | None = None,
) -> Settings:
    """Decide. `base` is where relative URLs are seen from, None outside of any repository.

    Raises `Failed`: bad-agent, bad-session, bad-ledger, bad-channel, no-git.
    """
    folder = config_dir(environ)
    given = _git_config(git)
    own = folder / "config"
    if base is None and os.path.exists(own):  # noqa: PTH110 - False where it may not look
        # Git itself knows nothing of this file.
        given += [pair for pair in _git_config(git, own) if pair[0].startswith(PREFIX)]
    ours = {name.removeprefix(PREFIX): v for name, v in given if name.startswith(PREFIX)}
    chosen = {row.name: _choose(row, options, environ, ours) for row in SETTINGS}
    is_remote = host and (host.is_served or f"remote.{DEFAULT_REMOTE}.url" not in dict(given))
    if host and is_remote and not _given(REMOTE, options, environ, ours):
        chosen["remote"] = str(host.path)
        chosen["agent"] = chosen["agent"] or host.owner(chosen["ledger"])
    configured = ours.get(AGENT.key) or None
    if configured not in (None, chosen["agent"]) and not _given(SSH_KEY, options, environ, {}):
        chosen["ssh_key"] = None  # the configuration's is that of the agent that it names
    _need_branch(chosen["branch"], git)
    remembered = not options.remote
    remote = _resolve(chosen["remote"], given, base, environ, remembered=remembered)
    return Settings(
        **chosen | {"remote": remote},
        names_ledger=_given(LEDGER, options, environ, ours) is not None,
        base_agent=chosen["agent"],
        configured_agent=configured,
        harness_session=harness_session(environ),
        path=options.path,
        environ=environ,
        timeout=options.timeout,
        offline=options.offline,
        unknown_keys=tuple(sorted(ours.keys() - SERVER_KEYS - {row.key for row in SETTINGS})),
        plain_http=_is_plain_http(environ, given),
        ca_file=environ.get("GIT_SSL_CAINFO") or dict(given).get("http.sslcainfo"),
        transport_settings=_transport_settings(remote, given, environ),
        config_dir=folder,
        cache_dir=cache_dir(environ),
        folder_mode=_folder_mode(dict(given).get("core.sharedrepository", "")),
        folds_case=dict(given).get("core.ignorecase", "").lower() in _TRUE,
    )


def need_same_way(settings: Settings, git: Git, base: Path) -> None:
    """Git in another repository looks the remote up again, by that one's configuration.

    Raises `Failed`: bad-config, where a push would go elsewhere, or in another way.
    """
    remote, environ = settings.remote, settings.environ
    if remote.folder and remote.plain:
        return  # an absolute path
    given = _git_config(git)
    seen = _resolve(remote.given, given, base, environ)
    says = _transport_settings(seen, given, environ)
    if (seen, says) != (remote, settings.transport_settings):
        why = f"seen from {git.cwd} it has another meaning"
        raise error("bad-config", key=f"remote {remote.shown}", why=why)


def _resolve(
    remote: str,
    given: list[tuple[str, str]],
    base: Path | None,
    environ: Mapping[str, str],
    *,
    remembered: bool = False,
) -> Address:
    found = address.resolve(remote, given, base, remembered=remembered)
    if "GIT_ALLOW_PROTOCOL" in environ:
        return found._replace(more=(*found.more, "GIT_ALLOW_PROTOCOL"))
    return found


def _folder_mode(shared: str) -> int:
    """The mode that git's `core.sharedRepository` asks for."""
    if shared.lower() in ("group", "true", "yes", "on", "1"):
        return 0o2770
    if shared.lower() in ("all", "world", "everybody", "2"):
        return 0o2775
    if shared.startswith("0") and set(shared) <= set("01234567"):
        mode = int(shared, 8) & 0o666
        return 0o700 | mode | (mode & 0o444) >> 2 | (0o2000 if mode & 0o020 else 0)
    return 0o700


def _choose(
    row: Setting, options: Options, environ: Mapping[str, str], ours: Mapping[str, str]
) -> Any:
    """The setting's value, from the first place that has one. An empty text is none."""
    text = _given(row, options, environ, ours) or row.default
    return None if text is None else row.parse(text)


def _given(
    row: Setting, options: Options, environ: Mapping[str, str], ours: Mapping[str, str]
) -> str | None:
    """The setting's text, from the first place that has one; None if it was left open."""
    text: str | None = (
        getattr(options, row.name, None)
        or (row.variable and environ.get(row.variable))
        or ours.get(row.key)
    )
    return text or None


def is_named(options: Options, environ: Mapping[str, str]) -> bool:
    """Whether the caller or the environment says who signs, or by which key."""
    return any(_given(row, options, environ, {}) for row in (AGENT, SSH_KEY))


def _need_branch(name: str | None, git: Git) -> None:
    """Raises `Failed`: bad-value."""
    if name and git.run("check-ref-format", f"refs/heads/{name}").code:
        raise error("bad-value", what="--branch", why=f"{name} is no branch's name")


def _git_config(git: Git, file: Path | None = None) -> list[tuple[str, str]]:
    """Names (lower case but for remotes' and URLs') and values of what matters to us.

    Raises `Failed`: bad-config.
    """
    command, *asked = GIT_CONFIG
    ran = git.run(command, *(["--file", str(file)] if file else []), *asked)
    if ran.code > 1:  # 1: nothing found
        raise error("bad-config", key="git config", why=ran.why())
    pairs = (entry.partition("\n") for entry in ran.out.split("\0") if entry)
    return [(name, value) for name, _, value in pairs]


# Beginnings of the variables that tell git how to speak HTTP.
_ON_HTTP = ("GIT_HTTP_", "GIT_SSL_", "GIT_PROXY_", "GIT_CURL_", "GIT_TRACE_CURL", "GIT_SMART_HTTP")


def _is_plain_http(environ: Mapping[str, str], given: list[tuple[str, str]]) -> bool:
    """Whether nobody has said how git is to speak HTTP; credentials are asked for with git."""
    says = [name for name, _ in given if name.startswith("http.") or name == "push.gpgsign"]
    says += [name for name in environ if name.startswith(_ON_HTTP)]
    says += [name for name in environ if name.lower().endswith("_proxy")]
    netrc = Path(environ.get("HOME", "/"), ".netrc")
    return {"http.sslcainfo", "GIT_SSL_CAINFO"}.issuperset(says) and not netrc.exists()


def _transport_settings(
    remote: Address, given: list[tuple[str, str]], environ: Mapping[str, str]
) -> tuple[str, ...]:
    """The settings that decide, beside the URL, where a push goes and how."""
    ours = ("core.sshcommand", "core.gitproxy")
    says = [f"{name}={value}" for name, value in given if name in ours]
    says += remote.more
    says += [f"{name}={environ.get(name)}" for name in ("GIT_SSH", "GIT_SSH_COMMAND")]
    return tuple(sorted(says))
