"""Who am I, which ledger, where are secrets: flags, environment, git config -> one object.

Rules: flags win over the environment, the environment over git's configuration, that
over the defaults; it is read once, and nothing else in coordledger looks at the
environment. Unknown keys below `coordledger.` are reported. Secrets are found here but
judged (permissions, form) by `keyfiles`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from coordledger import keyfiles
from coordledger.errors import CoordledgerError, error
from coordledger.format.names import is_identifier
from coordledger.git import address

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from coordledger.format.signing import Secret
    from coordledger.git.address import Address
    from coordledger.git.process import Git

KEYS = frozenset({"agent", "session", "remote", "ledger", "branch", "channels", "maxgap", "queue"})
SECRETS = "COORDINATION_SECRET"


class Options(NamedTuple):
    """What the caller says; None where nothing was said. `timeout` in seconds."""

    path: Path = Path()
    agent: str | None = None
    session: str | None = None
    remote: str | None = None
    ledger: str | None = None
    branch: str | None = None
    timeout: float = 30.0
    offline: bool = False


class Settings(NamedTuple):
    """Everything that was decided before the first look at the ledger."""

    path: Path
    environ: Mapping[str, str]
    agent: str | None
    session: str | None
    remote: Address
    ledger: str
    branch: str | None
    channels: tuple[str, ...]
    timeout: float
    offline: bool
    queue: bool  # whether to line up with this user's other processes
    unknown_keys: tuple[str, ...]
    plain_http: bool  # git speaks HTTP as it does by default, but for the CA file
    ca_file: str | None
    transport_settings: tuple[str, ...]  # how a push goes there, beside the URL
    config_dir: Path
    cache_dir: Path

    def __repr__(self) -> str:  # secrets may be in the environment
        return f"Settings({self.path})"

    @property
    def need_agent(self) -> str:
        """The agent. Raises `Failed`: no-agent."""
        if self.agent is None:
            raise error("no-agent")
        return self.agent


def config_dir(environ: Mapping[str, str]) -> Path:
    """Where the user's own files are: secrets, masters, the set-up outside of repositories."""
    if environ.get("XDG_CONFIG_HOME"):
        return Path(environ["XDG_CONFIG_HOME"], "coordledger")
    import platformdirs  # noqa: PLC0415 - where the environment says nothing

    return platformdirs.user_config_path("coordledger", appauthor=False)


def cache_dir(environ: Mapping[str, str]) -> Path:
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"], "coordledger")
    import platformdirs  # noqa: PLC0415 - as above

    return platformdirs.user_cache_path("coordledger", appauthor=False)


def load(options: Options, environ: Mapping[str, str], git: Git, base: Path | None) -> Settings:
    """Decide. `base` is where relative URLs are seen from, None outside of any repository.

    Raises `Failed`: bad-agent, bad-session, bad-ledger, bad-channel, no-git.
    """
    folder = config_dir(environ)
    given = _git_config(git)
    own = folder / "config"
    if base is None and own.exists():  # git itself knows nothing of this file
        given += [pair for pair in _git_config(git, own) if pair[0].startswith("coordledger.")]
    ours = {
        name.removeprefix("coordledger."): value
        for name, value in given
        if name.startswith("coordledger.")
    }
    agent = options.agent or environ.get("COORDLEDGER_AGENT") or ours.get("agent")
    session = options.session or environ.get("COORDLEDGER_SESSION") or ours.get("session")
    ledger = options.ledger or environ.get("COORDLEDGER_LEDGER") or ours.get("ledger") or "main"
    remote = options.remote or environ.get("COORDLEDGER_REMOTE") or ours.get("remote") or "origin"
    channels = tuple((ours.get("channels") or "general").replace(",", " ").split())
    for code, value in [("bad-agent", agent), ("bad-session", session), ("bad-ledger", ledger)]:
        if value is not None and not is_identifier(value):
            raise error(code, value=value)
    for channel in channels:
        if not is_identifier(channel):
            raise error("bad-channel", value=channel)
    where = address.resolve(remote, given, base)
    if "GIT_ALLOW_PROTOCOL" in environ:
        where = where._replace(more=(*where.more, "GIT_ALLOW_PROTOCOL"))
    return Settings(
        path=options.path,
        environ=environ,
        agent=agent,
        session=session,
        remote=where,
        ledger=ledger,
        branch=_branch(options.branch or ours.get("branch"), git),
        channels=channels,
        timeout=options.timeout,
        offline=options.offline,
        queue=_is_on(environ.get("COORDLEDGER_QUEUE") or ours.get("queue") or "on"),
        unknown_keys=tuple(sorted(ours.keys() - KEYS)),
        plain_http=_is_plain_http(environ, given),
        ca_file=environ.get("GIT_SSL_CAINFO") or dict(given).get("http.sslcainfo"),
        transport_settings=_transport_settings(where, given, environ),
        config_dir=folder,
        cache_dir=cache_dir(environ),
    )


def _is_on(value: str) -> bool:
    """A truth value, as git writes it. Raises `Failed`: bad-config."""
    words = {"on": True, "true": True, "yes": True, "1": True}
    words |= {"off": False, "false": False, "no": False, "0": False}
    if value.lower() not in words:
        raise error("bad-config", key="coordledger.queue", why=f"{value} is neither on nor off")
    return words[value.lower()]


def _branch(name: str | None, git: Git) -> str | None:
    """Raises `Failed`: bad-value."""
    if name and git.run("check-ref-format", f"refs/heads/{name}").code:
        raise error("bad-value", what="--branch", why=f"{name} is no branch's name")
    return name or None


def _git_config(git: Git, file: Path | None = None) -> list[tuple[str, str]]:
    """Names (lower case but for remotes' and URLs') and values of what matters to us.

    Raises `Failed`: bad-config.
    """
    where = ["--file", str(file)] if file else []
    ran = git.run(
        *("config", *where, "--null", "--get-regexp"),
        r"^((coordledger|remote|url|protocol|http|push)\.|core\.(sshcommand|gitproxy)$)",
    )
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
    """What decides where a push goes beside the URL: two clones with the same go the same way."""
    says = [f"{name}={value}" for name, value in given if name.startswith("core.")]
    says += remote.more
    says += [f"{name}={environ.get(name)}" for name in ("GIT_SSH", "GIT_SSH_COMMAND")]
    return tuple(sorted(says))


class SecretFinder:
    """Where an agent's secret may be; the first place that has one decides."""

    def __init__(self, settings: Settings, root: Path | None) -> None:
        """`root` is the git work tree's, if there is one."""
        self._environ, self._own = settings.environ, settings.agent
        self._config_dir, self._root = settings.config_dir, root

    def find(self, agent: str) -> tuple[str, list[Secret]]:
        """The place and the secrets there (none at all: an empty list).

        Raises `Failed`: secret-exposed, bad-secret.
        """
        names = [f"{SECRETS}_{agent.upper().replace('-', '_')}"]
        if agent == self._own:
            names.append(SECRETS)  # says whose it is no more than that it is ours
        for name in names:
            if self._environ.get(name):
                content = self._environ[name].encode("ascii", "replace")
                return name, keyfiles.parse(content, name)
        for path in self._files(agent):
            found = keyfiles.read(str(path))
            if found is not None:
                return str(path), found
        return str(self.home(agent)), []

    def quietly(self, agent: str) -> Iterable[Secret]:
        """For checking others' records: what is unusable is no key, and no error."""
        try:
            return self.find(agent)[1]
        except CoordledgerError:
            return ()

    def home(self, agent: str) -> Path:
        """Where a new secret of `agent` is written: never into a work tree."""
        given = self._environ.get(f"{SECRETS}S_DIR")
        return Path(given or self._config_dir / "secrets", f"{agent}.secret")

    def _files(self, agent: str) -> Iterable[Path]:
        yield from [self.home(agent)] if self._environ.get(f"{SECRETS}S_DIR") else []
        if self._root:
            yield self._root / "secrets" / "coordination" / f"{agent}.secret"
        yield self._config_dir / "secrets" / f"{agent}.secret"


def masters(settings: Settings, ledger_id: str | None) -> list[Secret]:
    """The ledger's master if it is here: in a local bare repository, or in the user's files.

    Raises `Failed`: secret-exposed, bad-secret.
    """
    path = settings.remote.folder
    if path and os.access(f"{path}/coordledger/master", os.R_OK):
        return keyfiles.read(f"{path}/coordledger/master") or []
    if ledger_id:
        return keyfiles.read(str(settings.config_dir / "masters" / ledger_id)) or []
    return []
