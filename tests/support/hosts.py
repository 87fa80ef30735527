"""Real git servers on loopback ports, each serving one directory of bare repositories.

Rules: every server has its own configuration, keys and port below one directory, is
started by the test session and stopped by its process id; nothing of the machine's own
servers is used or changed. `start(kind, …)` gives a `Host` or raises `Absent` if the
machine lacks what it needs.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("path", "daemon", "http", "ssh", "gitolite")
PASSWORD = "correct-horse"  # of the basic auth that these tests set up
WRONG_PASSWORD = "battery-staple"
ALIAS = "ledgerhost"  # by which ssh knows the server, whatever the port
_SECONDS = 15


Processes = list[subprocess.Popen[bytes]]


class Absent(Exception):
    """What this kind of server needs is not on this machine."""


@dataclass
class Host:
    """A running server. `url` is the repository's, `path` where it lies on the server;
    `env` is what a client needs, `wrong` the same with wrong credentials (None: it has none)."""

    kind: str
    url: str
    path: Path
    env: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] | None = None
    port: int = 0
    processes: Processes = field(default_factory=list)
    tls_port: int = 0  # http also speaks TLS there, with a certificate that only `ca` vouches for;
    # below /open/ it asks nobody for a password
    ca: Path | None = None
    key: Path | None = None  # of ssh, the agent's; `known` is its known_hosts file
    known: Path | None = None
    log: Path | None = None  # of http: connection, method, path, status and user agent

    def through(self, port: int) -> str:
        """The URL by way of another port."""
        return self.url.replace(f":{self.port}/", f":{port}/")

    def alone(self) -> dict[str, str]:
        """`env` for connections of one's own."""
        return {
            name: f"{value} -S none" if name == "GIT_SSH_COMMAND" else value
            for name, value in self.env.items()
        }

    def stop(self) -> None:
        _stop(self.processes)


_spawned: Processes = []  # by this process, ever


def _stop(processes: Processes) -> None:
    for process in reversed(processes):
        try:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(_SECONDS)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(_SECONDS)


def start(kind: str, root: Path, env: dict[str, str]) -> Host:
    """A server of this kind with an empty place for `ledger.git`. Raises `Absent`."""
    root.mkdir(parents=True, exist_ok=True)
    before = len(_spawned)
    try:
        return _STARTERS[kind](root, env)
    except BaseException:
        _stop(_spawned[before:])
        raise


def _need(*programs: str) -> list[str]:
    found = []
    for program in programs:
        path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/usr/lib/git-core")
        if path is None:
            raise Absent(program)
        found.append(path)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until(happened: Callable[[], bool], why: str) -> None:
    end = time.monotonic() + _SECONDS
    while not happened():
        assert time.monotonic() < end, why
        time.sleep(0.02)


def _wait_for(port: int) -> None:
    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    _wait_until(listens, f"nothing listens on port {port}")


def _spawn(root: Path, env: dict[str, str], *argv: str) -> subprocess.Popen[bytes]:
    with (root / "server.log").open("ab") as log:
        process = subprocess.Popen(
            argv,
            cwd=root,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _spawned.append(process)
    return process


def _path(root: Path, env: dict[str, str]) -> Host:
    path = root / "ledger.git"
    return Host("path", str(path), path)


def _daemon(root: Path, env: dict[str, str]) -> Host:
    _need("git-daemon")
    port = free_port()
    daemon = _spawn(
        root,
        env,
        *("git", "daemon", "--listen=127.0.0.1", f"--port={port}", "--export-all"),
        *("--enable=receive-pack", "--reuseaddr", f"--base-path={root}", str(root)),
    )
    _wait_for(port)
    url = f"git://127.0.0.1:{port}/ledger.git"
    return Host("daemon", url, root / "ledger.git", port=port, processes=[daemon])


_NGINX = """
daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/error.log; user {user};
events {{ worker_connections 256; }}
http {{
  log_format kept '$connection $request_method $uri $status $http_user_agent';
  access_log {root}/access.log kept; client_max_body_size 0;
  map $uri $realm {{ default git; ~^/open/ off; }}
  map $uri $path {{ default $uri; ~^/open(?<below>/.*) $below; }}
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
  uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{
    listen 127.0.0.1:{port};
    listen 127.0.0.1:{tls_port} ssl;
    ssl_certificate {root}/tls.crt; ssl_certificate_key {root}/tls.key;
    location ~ ^/moved(/.*) {{ return 302 /open$1$is_args$args; }}
    location / {{
      auth_basic $realm; auth_basic_user_file {root}/passwd;
      fastcgi_pass unix:{root}/cgi.sock;
      fastcgi_param SCRIPT_FILENAME {backend};
      fastcgi_param GIT_PROJECT_ROOT {root};
      fastcgi_param GIT_HTTP_EXPORT_ALL "";
      fastcgi_param PATH_INFO $path;
      fastcgi_param QUERY_STRING $query_string;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param CONTENT_TYPE $content_type;
      fastcgi_param CONTENT_LENGTH $content_length;
      fastcgi_param REMOTE_USER $remote_user;
      fastcgi_param REMOTE_ADDR $remote_addr;
      fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;
      fastcgi_param GIT_PROTOCOL $http_git_protocol;
    }}
  }}
}}
"""


def helper(path: Path, password: str) -> Path:
    """A credential helper, git's own way to a password; each question is a line of its log."""
    path.write_text(
        f'#!/bin/sh\necho "$1" >> {path}.log\n'
        f'[ "$1" != get ] || printf "username=agent\\npassword={password}\\n"\n'
    )
    path.chmod(0o700)
    return path


def _credentials(root: Path, name: str, password: str) -> dict[str, str]:
    """A client's configuration with a credential helper."""
    config = root / f"{name}.gitconfig"
    config.write_text(f"[credential]\n\thelper = {helper(root / name, password)}\n")
    return {"GIT_CONFIG_GLOBAL": str(config)}


def _certificate(root: Path, openssl: str) -> Path:
    path = root / "tls.crt"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(root / "tls.key"), "-out", str(path)]
    subprocess.run([openssl, *options.split(), *names, *files], check=True, capture_output=True)
    return path


def _http(root: Path, env: dict[str, str]) -> Host:
    nginx, fcgiwrap, htpasswd, backend, openssl = _need(
        "nginx", "fcgiwrap", "htpasswd", "git-http-backend", "openssl"
    )
    port, tls_port = free_port(), free_port()
    ca = _certificate(root, openssl)
    user = "root" if os.geteuid() == 0 else "nobody"
    config = root / "nginx.conf"
    config.write_text(
        _NGINX.format(root=root, port=port, tls_port=tls_port, backend=backend, user=user)
    )
    subprocess.run(
        [htpasswd, "-bcB", str(root / "passwd"), "agent", PASSWORD], check=True, capture_output=True
    )
    cgi = _spawn(root, env, fcgiwrap, "-c", "4", "-s", f"unix:{root}/cgi.sock")
    web = _spawn(root, env, nginx, "-p", str(root), "-c", str(config))
    _wait_for(port)
    return Host(
        "http",
        f"http://127.0.0.1:{port}/ledger.git",
        root / "ledger.git",
        env=_credentials(root, "right", PASSWORD),
        wrong=_credentials(root, "wrong", WRONG_PASSWORD),
        port=port,
        tls_port=tls_port,
        ca=ca,
        log=root / "access.log",
        processes=[cgi, web],
    )


def _keypair(root: Path, name: str) -> Path:
    path = root / name
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True
    )
    return path


def _sshd(
    root: Path, env: dict[str, str], keys: Path, key: Path, extra: str
) -> tuple[int, str, Processes]:
    """Port, ssh's command line without a key, and what to stop.

    A connection of the tests' own, with `key`, is kept open for who gives `-S mux`: most
    tests are not about connecting, which costs more than all the rest.
    """
    (sshd, *_) = _need("sshd", "ssh", "ssh-keygen", "git-shell")
    if os.geteuid() != 0:
        raise Absent("root, for sshd")
    Path("/run/sshd").mkdir(exist_ok=True)
    port, host_key = free_port(), _keypair(root, "host_key")
    config = root / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nPidFile {root}/sshd.pid\n"
        f"AuthorizedKeysFile {keys}\nStrictModes no\nPasswordAuthentication no\nUsePAM no\n"
        f"PermitRootLogin yes\nMaxStartups 100\nLogLevel ERROR\n{extra}\n"
    )
    server = _spawn(root, env, sshd, "-D", "-e", "-f", str(config))
    _wait_for(port)
    known = root / "known_hosts"
    known.write_text(f"{ALIAS} {host_key.with_suffix('.pub').read_text()}")
    options = f"-F none -o UserKnownHostsFile={known} -o HostKeyAlias={ALIAS}"
    quick = "-o KexAlgorithms=curve25519-sha256 -o IdentitiesOnly=yes -o BatchMode=yes"
    ssh = f"ssh {options} {quick}"
    master = [*ssh.split(), "-i", str(key), "-p", str(port), "-M", "-N", "-S", str(root / "mux")]
    shared = _spawn(root, env, *master, "root@127.0.0.1")
    _wait_until((root / "mux").exists, "no connection to sshd")
    return port, ssh, [server, shared]


def _ssh(root: Path, env: dict[str, str]) -> Host:
    key, stranger = _keypair(root, "agent_key"), _keypair(root, "stranger_key")
    keys = root / "authorized_keys"
    keys.write_text(key.with_suffix(".pub").read_text())
    (shell,) = _need("git-shell")
    # A home of its own: the login shell reads none of the user's files.
    extra = f'SetEnv HOME={root}\nForceCommand {shell} -c "$SSH_ORIGINAL_COMMAND"'
    port, ssh, processes = _sshd(root, env, keys, key, extra)
    return Host(
        "ssh",
        f"ssh://root@127.0.0.1:{port}{root}/ledger.git",
        root / "ledger.git",
        env={"GIT_SSH_COMMAND": f"{ssh} -i {key} -S {root}/mux"},
        wrong={"GIT_SSH_COMMAND": f"{ssh} -i {stranger}"},
        port=port,
        key=key,
        known=root / "known_hosts",
        processes=processes,
    )


@dataclass
class Accounts:
    """Accounts on hosts of their own, each with its home, which reach each other by ssh.

    `env` is what each one's programs see. On this machine all of them are one user: what is apart
    are their homes and keys, and what a key may do. `server` is the account that receives pushes.
    """

    env: dict[str, dict[str, str]]
    processes: Processes

    def home(self, name: str) -> Path:
        return Path(self.env[name]["HOME"])

    def stop(self) -> None:
        _stop(self.processes)


def ssh_accounts(root: Path, env: dict[str, str], *agents: str) -> Accounts:
    """An account `server`, where the keys of `agents` may run git and nothing else; and from there
    the hosts `AGENTs-host`, where files can be put into the agent's home. Raises `Absent`.
    """
    ssh, scp, git_shell = _need("ssh", "scp", "git-shell")
    sftp = "/usr/lib/openssh/sftp-server"
    if not os.access(sftp, os.X_OK):
        raise Absent("sftp-server")
    homes = {name: root / name for name in ("server", *agents)}
    for home in homes.values():
        (home / ".ssh").mkdir(parents=True)
        for name, program in (("ssh", ssh), ("scp", f"{scp} -S {home}/bin/ssh")):
            (home / "bin").mkdir(exist_ok=True)
            script = f'#!/bin/sh\nexec {program} -F "$HOME/.ssh/config" "$@"\n'
            (home / "bin" / name).write_text(script)  # ssh asks passwd for a home, and not HOME
            (home / "bin" / name).chmod(0o755)
    allowed = []
    for agent in agents:
        pulls = f'cd {homes["server"]} && exec {git_shell} -c \\"$SSH_ORIGINAL_COMMAND\\"'
        puts = f"{sftp} -d {homes[agent]}"
        for owner, name, command in ((agent, "id", pulls), ("server", f"to-{agent}", puts)):
            public = _keypair(homes[owner] / ".ssh", name).with_suffix(".pub").read_text()
            allowed.append(f'restrict,command="{command}" {public}')
    (root / "authorized_keys").write_text("".join(allowed))
    key = homes[agents[0]] / ".ssh" / "id"
    extra = f"SetEnv HOME={homes['server']}\nSubsystem sftp {sftp}"
    port, _, processes = _sshd(root, env, root / "authorized_keys", key, extra)
    common = (
        f"HostName 127.0.0.1\nPort {port}\nUser root\nHostKeyAlias {ALIAS}\nBatchMode yes\n"
        f"UserKnownHostsFile {root}/known_hosts\nIdentitiesOnly yes\n"
    )
    for agent in agents:
        own = homes[agent] / ".ssh" / "config"
        own.write_text(f"Host server\nIdentityFile {homes[agent]}/.ssh/id\n{common}")
        with (homes["server"] / ".ssh" / "config").open("a") as config:
            config.write(f"Host {agent}s-host\n")
            config.write(f"IdentityFile {homes['server']}/.ssh/to-{agent}\n{common}")
    seen = {
        name: env | {"HOME": str(home), "PATH": f"{home}/bin:{env['PATH']}"}
        for name, home in homes.items()
    }
    return Accounts(seen, processes)


_GITOLITE = """
repo gitolite-admin
    RW+ = admin

repo ledger
    RW refs/coordledger/ = admin
    RW refs/coordledger-try/ = admin
    RW+ refs/heads/ = admin
"""


def _gitolite(root: Path, env: dict[str, str]) -> Host:
    _need("gitolite")
    key, stranger = _keypair(root, "admin"), _keypair(root, "stranger_key")
    home = root / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    there = env | {"HOME": str(home), "USER": "root", "GIT_CONFIG_GLOBAL": os.devnull}

    def run(*argv: str) -> None:
        done = subprocess.run(
            argv, cwd=home, env=there, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"

    run("gitolite", "setup", "-pk", str(key.with_suffix(".pub")))
    (home / ".gitolite" / "conf" / "gitolite.conf").write_text(_GITOLITE)
    run("gitolite", "setup")
    keys = home / ".ssh" / "authorized_keys"
    port, ssh, processes = _sshd(root, env, keys, key, f"SetEnv HOME={home}")
    return Host(
        "gitolite",
        f"ssh://root@127.0.0.1:{port}/ledger",
        home / "repositories" / "ledger.git",
        env={"GIT_SSH_COMMAND": f"{ssh} -i {key} -S {root}/mux"},
        wrong={"GIT_SSH_COMMAND": f"{ssh} -i {stranger}"},
        port=port,
        key=key,
        known=root / "known_hosts",
        processes=processes,
    )


_STARTERS = {
    "path": _path,
    "daemon": _daemon,
    "http": _http,
    "ssh": _ssh,
    "gitolite": _gitolite,
}
