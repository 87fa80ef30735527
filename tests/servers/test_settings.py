"""The user's own settings of git and ssh work as they do for git itself, or do no harm."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from support import hosts
from support.fleet import LEDGER_REF
from support.proxy import Proxy
from support.sites import SECONDS, Site, on_a_terminal, wait_until

from coordledger.client.config import Options
from coordledger.errors import Failed
from coordledger.setup import joining

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from coordledger.client.ledger import Ledger

    SiteOf = Callable[[str], Site]

NO_SSH = {"GIT_SSH_COMMAND": None}
NO_GLOBAL = {"GIT_CONFIG_GLOBAL": os.devnull}


def configured(
    site: Site,
    settings: Mapping[str, object],
    *,
    remote: str | None = None,
    env: Mapping[str, str | None] | None = None,
) -> Ledger:
    """A clone of bob's with these settings in its own configuration."""
    path = site.copy("bob")
    for name, value in settings.items():
        site.git("config", "--add", name, str(value), cwd=path, check=True)
    return site.open("bob", path, remote=remote, env=env)


def works(site: Site, ledger: Ledger) -> None:
    """Reading and writing: what bob's clone has not seen arrives, and a claim lands."""
    if ledger.connection.local.trusted.commit == site.head():
        site.alice.submit(site.new("news"))
    assert ledger.head().commit == site.head()
    assert ledger.claim(site.new("setting")).outcome == "won"
    assert ledger.head(refresh=False).commit == site.head()


def unreachable(ledger: Ledger) -> str:
    """Why the remote cannot be reached: it must not be reached."""
    with pytest.raises(Failed) as failed:
        ledger.claim("not-reached")
    assert failed.value.code == "remote-unreachable"
    assert ledger.connection.local.journal.intents() == []
    return failed.value.message


# -- ssh


def test_core_ssh_command_of_the_clone_is_used(site_of: SiteOf) -> None:
    site = site_of("ssh")
    right, wrong = site.host.env["GIT_SSH_COMMAND"], site.host.wrong["GIT_SSH_COMMAND"]
    works(site, configured(site, {"core.sshCommand": right}, env=NO_SSH))
    assert "Permission denied" in unreachable(
        configured(site, {"core.sshCommand": wrong}, env=NO_SSH)
    )


def test_git_ssh_command_wins_over_the_clones(site_of: SiteOf) -> None:
    site = site_of("ssh")
    works(site, configured(site, {"core.sshCommand": "false"}))


def ssh_config(site: Site, *more: str) -> str:
    """A command line with a configuration file that knows the server as `ledgerhost`."""
    path = site.root / site.new("ssh_config")
    lines = [
        f"Host {hosts.ALIAS}",
        "HostName 127.0.0.1",
        "User root",
        f"Port {site.host.port}",
        f"IdentityFile {site.host.key}",
        "IdentitiesOnly yes",
        f"HostKeyAlias {hosts.ALIAS}",
        *more,
    ]
    path.write_text("\n  ".join(lines) + "\n")
    return f"ssh -F {path}"


def test_a_host_of_the_ssh_configuration_is_a_remote(site_of: SiteOf) -> None:
    site = site_of("ssh")
    command = ssh_config(site, f"UserKnownHostsFile {site.host.known}", "BatchMode yes")
    remote = f"{hosts.ALIAS}:{site.host.path}"
    works(site, configured(site, {"core.sshCommand": command}, remote=remote, env=NO_SSH))


def test_a_connection_that_ssh_keeps_open_holds_nobody_up(site_of: SiteOf) -> None:
    site = site_of("ssh")
    socket = site.root / "persistent"
    kept = (f"ControlPath {socket}", "ControlMaster auto", "ControlPersist 30")
    command = ssh_config(site, f"UserKnownHostsFile {site.host.known}", "BatchMode yes", *kept)
    remote = f"{hosts.ALIAS}:{site.host.path}"
    ledger = configured(site, {"core.sshCommand": command}, remote=remote, env=NO_SSH)
    start = time.monotonic()
    try:
        assert ledger.claim(site.new("kept-open")).outcome == "won"
        assert socket.exists()
        assert time.monotonic() - start < SECONDS / 2
    finally:
        stop = [*command.split(), "-O", "exit", hosts.ALIAS]
        subprocess.run(stop, capture_output=True, timeout=SECONDS, check=False)
    # `-O exit` answers before the master has removed its socket.
    wait_until(lambda: not socket.exists(), "the master has not removed its socket")


def test_an_unknown_host_is_an_error_and_no_question(site_of: SiteOf) -> None:
    site = site_of("ssh")
    known = site.root / "knows_nobody"
    ask = ("StrictHostKeyChecking ask", f"UserKnownHostsFile {known}")
    env = site.environment("bob", {"GIT_SSH_COMMAND": ssh_config(site, *ask)})
    remote = f"{hosts.ALIAS}:{site.host.path}"
    code, printed = on_a_terminal(site.claim_command("bob", "--remote", remote), env)
    error = json.loads(printed)["error"]
    assert (code, error["code"]) == (1, "remote-unreachable")
    assert "Host key verification failed" in error["message"]
    assert not known.exists()


# -- http


def test_a_credential_helper_of_the_clone_is_asked(site_of: SiteOf) -> None:
    site = site_of("http")
    helper = hosts.helper(site.root / "helper-of-the-clone", hosts.PASSWORD)
    works(site, configured(site, {"credential.helper": helper}, env=NO_GLOBAL))
    asked = helper.with_name(f"{helper.name}.log").read_text().split()
    assert {"get", "store"} <= set(asked)


def test_http_proxy_is_used_for_http_and_https(site_of: SiteOf) -> None:
    site = site_of("http")
    settings = {"http.sslCAInfo": site.host.ca}
    with Proxy() as proxy:
        settings["http.proxy"] = f"http://127.0.0.1:{proxy.port}"
        plain = configured(site, settings)
        works(site, plain)
        assert proxy.requests
        before = proxy.requests
        assert configured(site, settings, remote=https(site)).head()
        assert proxy.requests > before
    assert f"127.0.0.1 port {proxy.port}" in unreachable(plain)


def https(site: Site) -> str:
    return f"https://127.0.0.1:{site.host.tls_port}/ledger.git"


def test_https_wants_a_certificate_that_http_ssl_ca_info_vouches_for(site_of: SiteOf) -> None:
    site = site_of("http")
    assert "certificate" in unreachable(configured(site, {}, remote=https(site)))
    works(site, configured(site, {"http.sslCAInfo": site.host.ca}, remote=https(site)))
    ca = {"GIT_SSL_CAINFO": str(site.host.ca)}
    assert configured(site, {}, remote=https(site), env=ca).head()


# -- other names of the remote


def test_instead_of_rewrites_the_remotes_url(site_of: SiteOf) -> None:
    site = site_of("daemon")
    base = site.host.url.removesuffix("ledger.git")
    settings = {f"url.{base}.insteadOf": "work:", "remote.short.url": "work:ledger.git"}
    works(site, configured(site, settings, remote="short"))
    assert configured(site, settings, remote="work:ledger.git").head()


@pytest.mark.parametrize("name", ["url.{}.pushInsteadOf", "remote.origin.pushUrl"])
def test_where_git_is_told_to_push_to_another_place_nothing_is_written(
    site_of: SiteOf, name: str
) -> None:
    site = site_of("daemon")
    target = f"git://127.0.0.1:{hosts.free_port()}/ledger.git"
    setting = (name.format(target), target if "{}" not in name else site.host.url)
    settings = {"remote.origin.url": site.host.url, setting[0]: setting[1]}
    ledger = configured(site, settings, remote="origin")
    assert ledger.head().commit == site.head()
    with pytest.raises(Failed) as refused:
        ledger.claim("two-places")
    assert refused.value.code == "two-addresses"
    assert ledger.connection.local.journal.intents() == []
    assert ledger.head().commit == site.head()


# -- kinds of clones


def test_two_work_trees_of_one_clone_are_two_sessions(site_of: SiteOf) -> None:
    site = site_of("path")
    path = site.copy("alice")
    linked = path.with_name(f"{path.name}-linked")
    add = ("worktree", "add", "--quiet", "--detach", linked, site.code_commit(path))
    site.git(*add, cwd=path, check=True)
    first, second = site.open("alice", path), site.open("alice", linked)
    won, lost = first.claim("one-tree"), second.claim("one-tree")
    assert (won.outcome, lost.outcome, lost.code) == ("won", "lost", "held")
    assert (
        lost.claims[0].session
        == first.connection.identity().session
        != second.connection.identity().session
    )
    assert second.head() == first.head()
    assert site.git("status", "--short", cwd=linked, check=True).stdout == ""


def test_a_partial_clone_has_the_whole_state(site_of: SiteOf) -> None:
    site = site_of("daemon")
    path = site.root / site.new("partial")
    site.git("config", "uploadpack.allowFilter", "true", cwd=site.host.path, check=True)
    flags = ("--quiet", "--filter=blob:none", "--no-checkout")
    site.git("clone", *flags, site.host.url, path, cwd=site.root, check=True)
    assert site.git("config", "remote.origin.promisor", cwd=path, check=True).stdout == "true\n"
    found = joining.join(Options(path=path, agent="bob"), site.env["bob"], "origin")
    assert (found.key, found.enforcement) == ("ready", "server")
    works(site, site.open("bob", path))
    missing = ("rev-list", "--objects", "--missing=print", LEDGER_REF)
    listed = site.git(*missing, cwd=path, check=True).stdout.splitlines()
    assert listed
    assert [line for line in listed if line.startswith("?")] == []


# -- what must not matter

HARMLESS = {
    "another remote to push to": {"remote.pushDefault": "elsewhere"},
    "signed pushes": {"push.gpgSign": "if-asked"},
    "pruning": {"fetch.prune": "true", "fetch.pruneTags": "true", "remote.origin.prune": "true"},
    "tags": {"push.followTags": "true", "remote.origin.tagOpt": "--tags"},
    "submodules": {"submodule.recurse": "true", "push.recurseSubmodules": "check"},
    "leases": {"push.useForceIfIncludes": "true", "push.default": "nothing"},
    "checks": {"transfer.fsckObjects": "true"},
    "colours": {"color.ui": "always", "color.push": "always", "color.remote": "always"},
    "an older protocol": {"protocol.version": "0"},
    "negotiation": {"push.negotiate": "true", "fetch.negotiationAlgorithm": "skipping"},
    "upkeep": {"gc.auto": "1", "maintenance.auto": "true", "fetch.writeCommitGraph": "true"},
    "bare repositories": {"safe.bareRepository": "explicit"},
    "the ledger's own refspec": {"remote.origin.fetch": "+refs/coordledger/*:refs/coordledger/*"},
    "push options": {"push.pushOption": "ci.skip"},
}


@pytest.mark.parametrize("setting", HARMLESS)
def test_it_works_beside(site_of: SiteOf, setting: str) -> None:
    site = site_of("daemon" if setting == "an older protocol" else "path")
    elsewhere = site.root / site.new("elsewhere.git")
    site.git("init", "--quiet", "--bare", elsewhere, cwd=site.root, check=True)
    fetch = "+refs/heads/*:refs/remotes/origin/*"
    remotes = {
        "remote.origin.url": site.host.url,
        "remote.origin.fetch": fetch,
        "remote.elsewhere.url": elsewhere,
    }
    ledger = configured(site, remotes | HARMLESS[setting], remote="origin")
    path = ledger.connection.settings.path
    # What somebody fetched once and pruning would take away; what a push could take along;
    # what a fetch could bring.
    commit = site.code_commit(path)
    for ref in ("refs/remotes/origin/gone", "refs/tags/v1"):
        site.git("update-ref", ref, commit, cwd=path, check=True)
    who = ("-c", "user.name=bob", "-c", "user.email=bob@example.org")
    tag = ("tag", "-a", "-m", "mine", site.new("mine"), ledger.connection.local.trusted.commit)
    site.git(*who, *tag, cwd=path, check=True)
    theirs = f"{site.code_commit()}:refs/tags/{site.new('theirs')}"
    site.git("push", "--quiet", site.host.url, theirs, check=True)
    before, there = local_refs(site, path), set(site.refs())
    works(site, ledger)
    assert local_refs(site, path) == before
    assert set(site.refs()) == there
    assert local_refs(site, elsewhere) == {}


def local_refs(site: Site, path: Path) -> dict[str, str]:
    """The refs of a repository but for the ledger's own copy."""
    ran = site.git("for-each-ref", "--format=%(refname) %(objectname)", cwd=path, check=True)
    found = dict(line.split(" ") for line in ran.stdout.splitlines())
    found.pop(LEDGER_REF, None)
    return found


@pytest.mark.parametrize("where", ["the clone's own", "core.hooksPath", "core.hooksPath, global"])
def test_the_users_hooks_are_not_run(site_of: SiteOf, where: str) -> None:
    site = site_of("daemon")
    ledger = configured(site, {})
    folder = site.root / site.new("hooks")
    log, config = folder / "log", folder / "gitconfig"
    env = None
    if where == "the clone's own":
        hooks = ledger.connection.settings.path / ".git" / "hooks"
    else:
        hooks = folder / "hooks"
    hooks.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    if where == "core.hooksPath":
        site.git("config", "core.hooksPath", hooks, cwd=ledger.connection.settings.path, check=True)
    elif where == "core.hooksPath, global":
        config.write_text(f"[core]\n\thooksPath = {hooks}\n")
        env = {"GIT_CONFIG_GLOBAL": str(config)}
    for name in ("pre-push", "reference-transaction", "post-checkout", "pre-auto-gc"):
        (hooks / name).write_text(f"#!/bin/sh\necho {name} >> {log}\nexit 1\n")
        (hooks / name).chmod(0o755)
    ledger = site.open("bob", ledger.connection.settings.path, env=env)
    works(site, ledger)
    assert not log.exists()
    # They are in force: git itself runs them.
    ref = ("update-ref", "refs/heads/mine", site.head())
    own = site.git(*ref, cwd=ledger.connection.settings.path, env=site.environment("bob", env))
    assert own.returncode != 0
    assert "reference-transaction" in log.read_text()
