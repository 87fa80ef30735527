"""What is a name, a path or a URL: as git has it, asked of git itself where it tells."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordledger.errors import Failed
from coordledger.git.address import (
    FOLDER,
    HTTP,
    NOWHERE,
    OTHER,
    SSH,
    kind_of,
    local_path,
    resolve,
    without_password,
)

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {
    "git@host:project.git": SSH,
    "host:project.git": SSH,
    "host:/srv/project.git": SSH,
    "host:": SSH,
    ":x": SSH,
    "[::1]:project.git": SSH,
    "[host:22]:project.git": SSH,
    "file:/srv/project.git": SSH,
    "c:/project": SSH,
    "ssh://host/project.git": SSH,
    "git+ssh://host/project.git": SSH,
    "ssh+git://host/project.git": SSH,
    "https://host/project.git": HTTP,
    "http://host/project.git": HTTP,
    "HTTP://host/project.git": OTHER,
    "FILE:///srv/project.git": OTHER,
    "git://host/project.git": OTHER,
    "ftp://host/project.git": OTHER,
    "a/b://c": OTHER,
    "./a://b": OTHER,
    "ext::sh -c x": OTHER,
    "file::/srv/project.git": OTHER,
    "::x": OTHER,
    "/srv/project.git": FOLDER,
    "/srv/a:b": FOLDER,
    "./a:b": FOLDER,
    "a/b:c": FOLDER,
    "a/b::c": FOLDER,
    "../project.git": FOLDER,
    "project": FOLDER,
    "~/project.git": FOLDER,
    "file:///srv/project.git": FOLDER,
    "file://host/srv/project.git": FOLDER,
}

PATHS = {
    "/srv/a:b": "/srv/a:b",
    "../a": "../a",
    "a": "a",
    "/srv/a%20b": "/srv/a%20b",
    "file:///srv/a%20b": "/srv/a b",
    "file:///srv/a%2": "/srv/a%2",
    "file:///srv/a%00b": None,
    "file://host/srv/a": "/srv/a",
    "file://%2fsrv/a": "/srv/a",
    "file://a": None,
    "file://": None,
    "~/a": None,
    "~bob/a": None,
    "[x]/y": None,
    "/srv/a@[b]/c": None,
    "": None,
    "host:a": None,
    "https://host/a": None,
}


@pytest.mark.parametrize(("url", "kind"), KINDS.items())
def test_a_url_is_of_the_kind_that_git_takes_it_for(url: str, kind: str) -> None:
    assert kind_of(url) == kind
    assert (local_path(url) is None) == (kind != FOLDER or url.startswith("~"))


@pytest.mark.parametrize(("url", "path"), PATHS.items())
def test_a_url_names_the_path_that_git_opens(url: str, path: str | None) -> None:
    assert local_path(url) == path


@pytest.mark.parametrize("url", [url for url, kind in KINDS.items() if kind != FOLDER])
def test_git_opens_no_folder_for_what_is_none(
    url: str, tmp_path: Path, env: dict[str, str]
) -> None:
    """Said by git: it may open local folders, and nothing else."""
    folder = tmp_path / "work" / url
    folder.mkdir(parents=True)
    git("init", "--quiet", "--bare", cwd=folder, env=env)
    allowed = env | {"GIT_ALLOW_PROTOCOL": "file"}
    ran = git("ls-remote", "--", url, cwd=tmp_path / "work", env=allowed)
    assert ran.returncode
    assert "does not appear to be a git repository" not in ran.stderr


@pytest.mark.parametrize("url", [url for url, path in PATHS.items() if path and ":" not in url])
def test_git_opens_the_folder_that_is_one(url: str, tmp_path: Path, env: dict[str, str]) -> None:
    url = url.replace("/srv", str(tmp_path / "srv"))
    work = tmp_path / "work"
    work.mkdir()
    git("init", "--quiet", "--bare", str(work / (local_path(url) or "")), cwd=work, env=env)
    assert git("ls-remote", "--", url, cwd=work, env=env).returncode == 0


def git(*args: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *args], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


# -- configuration

NAMES = ("origin", "team/x", "a:b", "x.y", "host:p", "https://h/p", "./p", "../p", "/p", "p/", "é")
URLS = ("git@host:p", "https://h/p", "p", "./p", "/p", "origin", "team/x", "al:p", "al:", "x")
BASES = ("git@host:", "sub/", "/p", "https://h/", "al:", "")
STARTS = ("al:", "al:p", "https:", "p", "/", "git@", "origin", "team/")

names, urls = st.sampled_from(NAMES), st.sampled_from(URLS)
pairs = st.lists(
    st.one_of(
        st.tuples(names.map("remote.{}.url".format), urls),
        st.tuples(names.map("remote.{}.fetch".format), st.just("+refs/x:refs/y")),
        st.tuples(st.sampled_from(BASES).map("url.{}.insteadof".format), st.sampled_from(STARTS)),
        st.tuples(
            st.sampled_from(BASES).map("url.{}.pushinsteadof".format), st.sampled_from(STARTS)
        ),
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([*NAMES, *URLS]), pairs)
def test_git_reads_from_the_same_url(typed: str, config: list[tuple[str, str]]) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_DIR": "/nonexistent"}
    env |= {"GIT_CONFIG_COUNT": str(len(config))}
    for number, (key, value) in enumerate(config):
        env |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    ran = subprocess.run(
        ["git", "ls-remote", "--get-url", "--", typed],
        cwd="/",
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    address = resolve(typed, config, None)
    assert address.url == ran.stdout.removesuffix("\n")


def test_a_configured_name_wins_whatever_characters_it_has(tmp_path: Path) -> None:
    for name in ("origin", "team/x", "git@host:p", "https://h/p", "./x", "..", "a.b", "x y"):
        address = resolve(name, [(f"remote.{name}.url", "https://h/p")], tmp_path)
        assert (address.name, address.url, address.kind) == (name, "https://h/p", HTTP)
        assert address.argument == name
        assert address.plain


def test_a_name_that_begins_with_a_slash_is_a_path(tmp_path: Path) -> None:
    address = resolve(str(tmp_path), [(f"remote.{tmp_path}.url", "https://h/p")], None)
    assert (address.name, address.kind, address.folder) == (None, FOLDER, str(tmp_path))


def test_a_word_that_is_no_remotes_name_is_nowhere(tmp_path: Path) -> None:
    for word in ("origin", "project.git", "~"):
        (tmp_path / word).mkdir()
        config = [("remote.origin.pushurl", "https://h/p"), ("remote.origin.fetch", "x")]
        address = resolve(word, config, tmp_path)
        assert (address.kind, address.folder) == (NOWHERE, None)
        assert not address.opens_folders
    for empty in ([""], ["", "/srv"], ["/srv", ""]):
        config = [("remote.origin.url", url) for url in empty]
        assert resolve("origin", config, tmp_path).kind == NOWHERE
    ruled = resolve("work", [("url.https://h/.insteadof", "work")], tmp_path)
    assert (ruled.kind, ruled.url) == (HTTP, "https://h/")


def test_a_remembered_path_begins_as_one(tmp_path: Path) -> None:
    (tmp_path / "sub/x").mkdir(parents=True)
    for path in ("sub/x", "sub/", ".sub/x", "..."):
        assert resolve(path, [], tmp_path, remembered=True).kind == NOWHERE
        named = [(f"remote.{path}.url", "https://h/p")]
        assert resolve(path, named, tmp_path, remembered=True).kind == HTTP
    paths = ("./sub/x", "../x", ".", "..", "/srv/x", "~/x", "file:///srv/x", "git@host:p", "a:b/c")
    for path in paths:
        assert resolve(path, [], tmp_path, remembered=True) == resolve(path, [], tmp_path)
    ruled = resolve("al/x", [("url./srv/.insteadof", "al/")], tmp_path, remembered=True)
    assert (ruled.kind, ruled.url) == (FOLDER, "/srv/x")


def test_a_path_is_seen_from_the_base_and_given_to_git_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "sub/x").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    for typed in ("sub/x", "./sub/x", "link/x", "sub/../sub/x"):
        address = resolve(typed, [], tmp_path)
        assert address.folder == address.argument == address.target == str(tmp_path / "sub/x")
    configured = resolve("origin", [("remote.origin.url", "sub/x")], tmp_path)
    assert (configured.folder, configured.name) == (str(tmp_path / "sub/x"), "origin")
    assert resolve(".", [], tmp_path).folder == str(tmp_path)
    assert resolve("sub/x", [], None).folder is None
    assert resolve("sub/y", [], tmp_path).folder is None
    assert resolve("sub/y", [], tmp_path).kind == FOLDER


def test_a_path_that_was_typed_is_seen_from_there(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for typed in ("./x", "y/../x", str(tmp_path / "sub/x")):
        assert resolve(typed, [], tmp_path).typed_in(tmp_path / "sub") == str(tmp_path / "sub/x")
    as_they_are = ("git@host:a/b", "https://h/p", "file:///srv/x", "~/x", "word", "a::b/c")
    for typed in as_they_are:
        assert resolve(typed, [], tmp_path).typed_in(tmp_path) == typed
    named = resolve("team/x", [("remote.team/x.url", "/srv/x")], tmp_path)
    assert named.typed_in(tmp_path) == "team/x"


def test_only_what_the_url_says_alone_is_plain(tmp_path: Path) -> None:
    url = ("remote.origin.url", str(tmp_path))
    harmless = [(f"remote.origin.{key}", "x") for key in ("fetch", "mirror", "tagopt")]
    other = [("remote.origin.x.pushurl", "x"), ("remote.origin2.vcs", "x"), ("http.proxy", "x")]
    assert resolve("origin", [url, *harmless, *other], tmp_path).plain
    assert resolve("origin", [url, *harmless, *other], tmp_path).argument == str(tmp_path)
    for key, value in [
        url,
        ("remote.origin.pushurl", "https://h/p"),
        ("remote.origin.uploadpack", "x"),
        ("remote.origin.vcs", "x"),
        ("url.x.insteadof", "nothing"),
        ("url.x.pushinsteadof", "nothing"),
        ("protocol.version", "2"),
    ]:
        address = resolve("origin", [url, (key, value)], tmp_path)
        assert address.more[-1] == f"{key}={value}"
        assert (address.plain, address.argument) == (False, "origin")


def test_git_may_open_a_folder_only_where_some_url_leads_to_one(tmp_path: Path) -> None:
    far, near = ("remote.o.url", "https://h/p"), ("remote.o.url", "sub/x")
    assert not resolve("o", [far], tmp_path).opens_folders
    assert resolve("o", [near], tmp_path).opens_folders
    assert resolve("o", [far, ("remote.o.pushurl", "sub/x")], tmp_path).opens_folders
    assert resolve("o", [far, ("url.sub/.pushinsteadof", "https:")], tmp_path).opens_folders
    assert not resolve("o", [near, ("url.x:.insteadof", "sub")], tmp_path).opens_folders


TWO_PLACES = {
    "a push URL": [("remote.o.pushurl", "https://fork/p")],
    "several push URLs": [("remote.o.pushurl", "https://h/p"), ("remote.o.pushurl", "/srv/p")],
    "several URLs": [("remote.o.url", "https://mirror/p")],
    "rewriting on push": [("url.ssh://fork/.pushinsteadof", "https://h/")],
    "a push URL that is rewritten": [
        ("remote.o.pushurl", "near:p"),
        ("url.https://fork/.insteadof", "near:"),
    ],
    "another port": [("remote.o.pushurl", "https://h:8443/p")],
    "another path": [("remote.o.pushurl", "git@h:q/p")],
}
ONE_PLACE = {
    "nothing beside the URL": [],
    "the same URL for pushing": [("remote.o.pushurl", "https://bot@h:443/p.git")],
    "the same host by ssh": [("url.git@h:.pushinsteadof", "https://h/")],
    "a push URL wins over rewriting": [
        ("remote.o.pushurl", "https://h/p"),
        ("url.ssh://fork/.pushinsteadof", "https://h/"),
    ],
    "another remote's push URL": [("remote.o2.pushurl", "https://fork/p")],
}


@pytest.mark.parametrize("settings", TWO_PLACES.values(), ids=list(TWO_PLACES))
def test_pushing_elsewhere_than_reading_is_no_address(settings: list[tuple[str, str]]) -> None:
    config = [("remote.o.url", "https://h/p"), *settings]
    address = resolve("o", config, None)
    with pytest.raises(Failed) as refused:
        address.need_one_place()
    assert refused.value.code == "two-addresses"
    # What the hint names is one place, with the same configuration.
    assert address.single
    assert resolve(address.single, config, None).elsewhere is None


@pytest.mark.parametrize("settings", ONE_PLACE.values(), ids=list(ONE_PLACE))
def test_two_names_of_one_place_are_one_address(settings: list[tuple[str, str]]) -> None:
    resolve("o", [("remote.o.url", "https://h/p"), *settings], None).need_one_place()


def test_two_names_of_one_folder_are_one_address(tmp_path: Path) -> None:
    (tmp_path / "ledger.git").mkdir()
    (tmp_path / "link").symlink_to("ledger.git")
    (tmp_path / "fork.git").mkdir()
    url = ("remote.o.url", f"{tmp_path}/ledger.git")
    for same in ("./link", f"file://{tmp_path}/ledger.git", f"{tmp_path}/ledger.git/"):
        resolve("o", [url, ("remote.o.pushurl", same)], tmp_path).need_one_place()
    for other in ("fork.git", "./absent", "host:ledger.git"):
        assert resolve("o", [url, ("remote.o.pushurl", other)], tmp_path).elsewhere == other


def test_what_is_shown_has_no_password() -> None:
    address = resolve("https://bob:hunter2@h/p", [], None)
    assert address.shown == "https://h/p"
    assert without_password("at ssh://git@host/p") == "at ssh://host/p"


@pytest.mark.parametrize(
    ("url", "is_proved"),
    [
        ("git://host/project.git", False),
        ("http://host/project.git", False),
        ("HTTP://host/project.git", False),
        ("http::http://host/project.git", False),
        ("https://host/project.git", True),
        ("ssh://git@host/project.git", True),
        ("host:project.git", True),
        ("/srv/git/project.git", True),
    ],
)
def test_a_way_without_keys_proves_nothing_of_who_answers(url: str, is_proved: bool) -> None:
    assert resolve(url, [], None).authenticates == is_proved
