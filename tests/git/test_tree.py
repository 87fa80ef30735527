"""Section 8's trees: as git makes them, changed in place as if made anew."""

import os
import subprocess
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordledger.git import tree as tree_module
from coordledger.git.tree import Tree, object_id

NAMES = st.sampled_from(
    ["a", "b", "a-b", "a.b", "a0", "a_b", "z", "a.json", "a-b.json", "00", "3f"]
)
# a leading letter for each depth: a path is never both a file and a folder
PATHS = st.one_of(
    NAMES.map(lambda name: f"f{name}"),
    st.tuples(NAMES, NAMES).map(lambda names: f"{names[0]}/f{names[1]}"),
    st.tuples(NAMES, NAMES, NAMES).map("/".join).map(lambda path: f"g/{path}"),
)
CONTENTS = st.binary(min_size=1, max_size=30)
FILES = st.dictionaries(PATHS, CONTENTS, max_size=12)
CHANGES = st.dictionaries(PATHS, st.none() | CONTENTS, max_size=8)
ALGOS = st.sampled_from(["sha1", "sha256"])


def from_scratch(files, algo):
    """The root's id for `files`, in the plainest way."""
    entries, folders = {}, {}
    for path, content in files.items():
        name, _, rest = path.partition("/")
        if rest:
            folders.setdefault(name, {})[rest] = content
        else:
            entries[name.encode()] = (b"100644", object_id("blob", content, algo))
    for name, below in folders.items():
        entries[name.encode() + b"/"] = (b"40000", from_scratch(below, algo))
    lines = [
        mode + b" " + name.rstrip(b"/") + b"\0" + bytes.fromhex(oid)
        for name, (mode, oid) in sorted(entries.items())
    ]
    return object_id("tree", b"".join(lines), algo)


def made(files, algo):
    """A tree of `files` and its objects."""
    new = Tree({}.__getitem__, None, algo).update(files)
    store = {oid: content for oid, (_, content) in new.objects.items()}
    return Tree(store.__getitem__, new.root, algo), store


def git(*arguments, at, **more):
    settled = {"HOME": str(at), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    answer = subprocess.run(
        ["git", *arguments],
        cwd=at,
        env={"PATH": os.environ["PATH"], **settled},
        check=True,
        capture_output=True,
        **more,
    )
    return answer.stdout


@given(FILES, ALGOS)
def test_a_tree_made_at_once_is_the_plain_serialisation(files, algo):
    assert made(files, algo)[0].root == from_scratch(files, algo)


@given(FILES, st.lists(CHANGES, max_size=4), ALGOS, st.sampled_from([0, 20, 10**6]))
def test_a_tree_changed_in_place_is_the_one_made_from_scratch(files, steps, algo, kept):
    """Whether its reader steps from one to the next, however much it keeps, or starts anew."""
    tree, store = made(files, algo)
    reader = tree
    with mock.patch.object(tree_module, "KEPT_BYTES", kept):
        for changes in steps:
            new = tree.update(changes)
            assert all(object_id(k, data, algo) == oid for oid, (k, data) in new.objects.items())
            stepped = reader.update(changes)
            reader.update(dict.fromkeys(files, b"never stood on"))
            store.update({oid: content for oid, (_, content) in new.objects.items()})
            stepped.stand()
            assert {path: reader.get(path) for path in files} == files  # who looks back
            reader, tree = stepped, Tree(store.__getitem__, new.root, algo)
            files = {path: c for path, c in (files | changes).items() if c is not None}
            assert tree.root == reader.root == from_scratch(files, algo)
            assert {path: tree.get(path) for path in files} == files
            assert {path: reader.get(path) for path in files} == files


def test_a_reader_that_steps_on_needs_no_store():
    reader = Tree({}.__getitem__, None, "sha1")
    for number in range(9):
        reader = reader.update({f"a/{number % 3}": b"%d" % number, "b": b"%d" % number})
        reader.stand()
    assert [reader.get(path) for path in ("a/0", "a/1", "a/2", "b")] == [b"6", b"7", b"8", b"8"]


def test_who_looks_back_takes_nothing_from_who_stands_ahead():
    before, store = made({"a": b"1"}, "sha1")
    after = before.update({"a": b"2"})  # stored nowhere
    after.stand()
    assert [before.get("a"), after.get("a")] == [b"1", b"2"]
    store.clear()
    assert after.get("a") == b"2"


def test_a_fork_steps_on_without_the_tree_that_it_came_from():
    tree = Tree({}.__getitem__, None, "sha1").update({"a": b"1", "b": b"1"})
    tree.stand()
    other = tree.copy().update({"a": b"2"})
    other.stand()
    assert [tree.get("a"), other.get("a"), other.get("b")] == [b"1", b"2", b"1"]


def test_what_a_file_parses_to_is_kept_for_its_content_alone():
    asked = []
    tree, _ = made({"a": b"1", "b": b"2"}, "sha1")
    for number in (b"1", b"1", b"3", b"1"):
        tree = tree.update({"a": number})
        tree.stand()
        for path in ("a", "b"):
            assert tree.value(path, lambda content: asked.append(content) or content) == tree.get(
                path
            )
    assert tree.value("c", int) is None
    assert asked.count(b"2") == 1


@given(FILES, CHANGES)
def test_an_update_writes_nothing_and_leaves_the_tree_as_it_was(files, changes):
    tree, store = made(files, "sha1")
    before = dict(store)
    tree.update(changes)
    assert store == before
    assert {path: tree.get(path) for path in files} == files


@settings(max_examples=12, deadline=None)
@given(st.lists(FILES, min_size=1, max_size=6), ALGOS)
def test_real_git_writes_the_same_trees(tmp_path_factory, sets, algo):
    at = tmp_path_factory.mktemp("git")
    git("init", "--quiet", f"--object-format={algo}", ".", at=at)
    for files in sets:
        index = []
        for path, content in files.items():
            oid = git("hash-object", "-w", "--stdin", at=at, input=content).strip()
            assert oid.decode() == object_id("blob", content, algo)
            index.append(b"100644 %s\t%s\n" % (oid, path.encode()))
        git("read-tree", "--empty", at=at)
        git("update-index", "--index-info", at=at, input=b"".join(index))
        assert git("write-tree", at=at).decode().strip() == made(files, algo)[0].root


def test_real_git_accepts_the_objects_of_a_tree(tmp_path):
    files = {"ledger.json": b"{}\n", "a/b/c": b"x", "a.b": b"y", "a-": b"z", "a0/c": b"0"}
    git("init", "--quiet", ".", at=tmp_path)
    new = Tree({}.__getitem__, None, "sha1").update(files)
    root, objects = new.root, new.objects
    for kind in ("blob", "tree"):  # what a tree names has to be there first
        for oid, (of, content) in objects.items():
            if of == kind:
                written = git("hash-object", "-wt", kind, "--stdin", at=tmp_path, input=content)
                assert written.decode().strip() == oid
    listed = git("ls-tree", "-r", "-z", root, at=tmp_path).decode().rstrip("\0").split("\0")
    assert [line.split("\t")[1] for line in listed] == ["a-", "a.b", "a/b/c", "a0/c", "ledger.json"]
    again = git("mktree", at=tmp_path, input=git("ls-tree", root, at=tmp_path))
    assert again.decode().strip() == root


def test_folders_sort_as_if_their_names_ended_in_a_slash():
    tree, store = made({"a/x": b"1", "a-": b"2", "a.": b"3", "a0": b"4"}, "sha1")
    names = [entry.split(b" ")[1] for entry in _entries(store[tree.root])]
    assert names == [b"a-", b"a.", b"a", b"a0"]


def _entries(content):
    while content:
        end = content.index(b"\0")
        yield content[:end]
        content = content[end + 21 :]


def test_the_empty_tree_has_gits_well_known_id():
    assert made({}, "sha1")[0].root == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    assert object_id("blob", b"", "sha1") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    removed = made({"a/b": b"x"}, "sha1")[0].update({"a/b": None})
    assert removed.root == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def test_a_folder_whose_last_file_goes_goes_too():
    tree, _ = made({"a/b/c": b"x", "d": b"y"}, "sha1")
    assert tree.update({"a/b/c": None}).root == from_scratch({"d": b"y"}, "sha1")


@pytest.mark.parametrize("algo", ["sha1", "sha256"])
def test_without_a_change_nothing_is_new_and_nothing_is_hashed(algo, monkeypatch):
    tree = Tree({}.__getitem__, None, algo).update({"a/b": b"1"})
    monkeypatch.setattr(tree_module, "object_id", None)
    same = tree.update({})
    assert (same.root, same.objects) == (tree.root, {})


def test_what_is_not_there_is_none():
    tree, _ = made({"a/b": b"x"}, "sha1")
    assert [tree.get(path) for path in ("c", "a", "a/c", "a/b/c", "")] == [None] * 5
    assert (tree.names(""), tree.names("a"), tree.names("c")) == (["a"], ["b"], [])
    assert tree.names("a/b") == []


@pytest.mark.parametrize(
    "entry", [b"120000 a\0", b"100755 a\0", b"160000 a\0", b"040000 a\0", b"100644 \xff\0"]
)
def test_a_tree_that_is_none_of_the_formats_is_not_read(entry):
    store = {"1" * 40: entry + bytes(20)}
    with pytest.raises(ValueError, match=r"mode|codec"):
        Tree(store.__getitem__, "1" * 40, "sha1").get("a")
