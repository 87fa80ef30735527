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
from coordledger.git.process import without_password
from coordledger.git.remote import local_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from coordledger.format.signing import Secret
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
    remote: str
    remote_known: bool
    ledger: str
    branch: str | None
    channels: tuple[str, ...]
    timeout: float
    offline: bool
    queue: bool  # whether to line up with this user's other processes
    unknown_keys: tuple[str, ...]
    url: str | None  # the remote's, if git's configuration has nothing more to say on it
    plain_http: bool  # git speaks HTTP as it does by default, but for the CA file
    ca_file: str | None
    transport_settings: tuple[str, ...]  # what it has to say
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

    @property
    def shown_remote(self) -> str:
        return without_password(self.remote)


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


def load(
    options: Options, environ: Mapping[str, str], git: Git, *, in_repository: bool
) -> Settings:
    """Decide. Raises `Failed`: bad-agent, bad-session, bad-ledger, bad-channel, no-git."""
    folder = config_dir(environ)
    given = _git_config(git, None if in_repository else folder / "config")
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
    known = "/" in remote or ":" in remote or any(n == f"remote.{remote}.url" for n, _ in given)
    return Settings(
        path=options.path,
        environ=environ,
        agent=agent,
        session=session,
        remote=remote,
        remote_known=known or local_path(remote) is not None,
        ledger=ledger,
        branch=_branch(options.branch or ours.get("branch"), git),
        channels=channels,
        timeout=options.timeout,
        offline=options.offline,
        queue=_is_on(environ.get("COORDLEDGER_QUEUE") or ours.get("queue") or "on"),
        unknown_keys=tuple(sorted(ours.keys() - KEYS)),
        url=None if "GIT_ALLOW_PROTOCOL" in environ else _plain_url(remote, given),
        plain_http=_is_plain_http(environ, given),
        ca_file=environ.get("GIT_SSL_CAINFO") or dict(given).get("http.sslcainfo"),
        transport_settings=_transport_settings(remote, given, environ),
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


def _git_config(git: Git, file: Path | None) -> list[tuple[str, str]]:
    """Names (lower case but for remotes' and URLs') and values of what matters to us."""
    where = ["--file", str(file)] if file and file.exists() else []
    ran = git.run(
        *("config", *where, "--null", "--get-regexp"),
        r"^((coordledger|remote|url|protocol|http|push)\.|core\.(sshcommand|gitproxy)$)",
    )
    if ran.code > 1:  # 1: nothing found
        raise error("bad-config", key="git config", why=ran.why())
    pairs = (entry.partition("\n") for entry in ran.out.split("\0") if entry)
    return [(name, value) for name, _, value in pairs]


# What a remote can say beside its URL without changing where a push goes, and how.
_HARMLESS = {"url", "fetch", "tagopt", "prune", "prunetags", "mirror", "push", "gh-resolved"}


def _plain_url(remote: str, given: list[tuple[str, str]]) -> str | None:
    """The one URL of the remote, or None if git's configuration decides more than that."""
    if any(name.startswith(("url.", "protocol.")) for name, _ in given):  # insteadOf, allow
        return None
    if "/" in remote or ":" in remote:
        return remote
    ours = [(n.rpartition("."), v) for n, v in given if n.startswith(f"remote.{remote}.")]
    says = {key: value for (name, _, key), value in ours if name == f"remote.{remote}"}
    one = [key for (_, _, key), _ in ours].count("url") == 1
    return says["url"] if one and says.keys() <= _HARMLESS else None


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
    remote: str, given: list[tuple[str, str]], environ: Mapping[str, str]
) -> tuple[str, ...]:
    """What decides where a push goes beside the URL: two clones with the same go the same way."""
    says = [
        f"{name}={value}"
        for name, value in given
        if name.startswith(("url.", "protocol.", "core."))
        or (name.startswith(f"remote.{remote}.") and name.rpartition(".")[2] not in _HARMLESS)
    ]
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


def masters(settings: Settings, remote_url: str, ledger_id: str | None) -> list[Secret]:
    """The ledger's master if it is here: in a local bare repository, or in the user's files.

    Raises `Failed`: secret-exposed, bad-secret.
    """
    path = local_path(remote_url)
    if path and os.access(f"{path}/coordledger/master", os.R_OK):
        return keyfiles.read(f"{path}/coordledger/master") or []
    if ledger_id:
        return keyfiles.read(str(settings.config_dir / "masters" / ledger_id)) or []
    return []
