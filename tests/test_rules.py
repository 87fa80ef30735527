"""Rules of the code that no linter knows: what the hooks load, what the public names speak of,
how large a class may be, what a test module may import.

Which package may import which is import-linter's to check, as pyproject.toml says.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import cryptography
import pytest

import coordledger

ROOT = Path(__file__).parents[1]
PACKAGE = Path(coordledger.__file__).parent
LIBRARIES = str(Path(cryptography.__file__).parents[1])
MAX_CLASS_LINES = 400

# What a hook may load beside the package, and beside what every Python has loaded. All are
# written in C, or as small as one: os, re, json, hashlib, subprocess, contextlib, typing and
# dataclasses would each take longer than verifying a record does.
HOOKS_MAY_LOAD = {
    "__future__", "_datetime", "_json", "_operator", "_sha1", "_sha2", "_sha256", "_stat",
    "binascii", "fcntl", "gc", "itertools", "zlib",
}  # fmt: skip


# -- the hooks


def loaded(program: str, *argv: str) -> set[str]:
    """The modules that Python, started as the hooks start it, has after `program`."""
    program += "\nimport sys\nprint('\\n'.join(sys.modules))"
    command = [sys.executable, "-I", "-S", "-E", "-c", program, *argv]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    return set(ran.stdout.split())


@pytest.mark.parametrize("hook", ["pre-receive", "proc-receive"])
def test_a_hook_loads_the_package_and_hardly_anything_else(hook: str) -> None:
    shim = (ROOT / "hooks" / hook).read_text("utf-8")
    program, _, end = shim.partition(" -c '\n")[2].partition("\nstart()\n")
    assert end.startswith('\' "$package"')
    every_kind = "\nfrom coordledger.format.rules import load_all\nload_all()"
    found = loaded(program + every_kind, str(PACKAGE.parent), LIBRARIES)
    assert "coordledger.format.rules.tasks" in found
    assert f"coordledger.server.{hook.replace('-', '_')}" in found
    others = {name for name in found if name.partition(".")[0] != "coordledger"}
    assert others - loaded("") <= HOOKS_MAY_LOAD


def test_what_checks_ssh_signatures_is_loaded_when_one_is_checked_and_not_much_with_it() -> None:
    vector = json.loads((ROOT / "tests/vectors/valid/ssh.json").read_text())["records"][0]
    genesis = "\n".join(vector["sha1"]["commit"])
    program = f"""if True:
        import sys
        sys.path.insert(0, sys.argv[1])
        sys.path.append(sys.argv[2])
        from coordledger.format.chain import Chain
        from coordledger.format.signing import Keyring
        chain = Chain(dict().__getitem__, Keyring(), None, "sha1")
        assert "coordledger.format.sshsig" not in sys.modules
        assert chain.judge({vector["sha1"]["oid"]!r}, {genesis!r}.encode()) == "authentic"
    """
    found = loaded(program, str(PACKAGE.parent), LIBRARIES)
    others = {name.partition(".")[0] for name in found - loaded("")} - {"coordledger"}
    assert others - HOOKS_MAY_LOAD <= {
        "_cffi_backend",
        "_openssl",
        "_sha512",
        "_types",  # half of types, since Python 3.15
        "cryptography",
        "types",
    }
    assert "cryptography.hazmat.primitives.asymmetric" not in found


# -- the second reader


def test_the_second_reader_knows_nothing_of_the_first() -> None:
    """Two implementations that share code would agree on its faults."""
    source = (ROOT / "tests" / "support" / "second_reader.py").read_text("utf-8")
    imported = {
        name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
        if name
    }
    assert {name.partition(".")[0] for name in imported} & sys.stdlib_module_names
    assert not {name for name in imported if name.startswith(("coordledger", "support"))}
    assert "__import__" not in source
    assert "importlib" not in source


# -- what is public


class _Names(dict[str, Any]):
    """What names mean in a module's annotations: those imported for type checkers alone too."""

    def __init__(self, module: str) -> None:
        self._module = importlib.import_module(module)
        for_checkers = [
            node
            for block in ast.parse(inspect.getsource(self._module)).body
            if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
            for node in block.body
        ]
        self._imports = {
            alias.asname or alias.name: (str(node.module), alias.name)
            for node in for_checkers
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        self._modules = {
            alias.name
            for node in for_checkers
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        self._aliases = {
            ast.unparse(node.targets[0]): ast.unparse(node.value)
            for node in for_checkers
            if isinstance(node, ast.Assign)
        }

    def __missing__(self, name: str) -> Any:
        if hasattr(self._module, name):
            return getattr(self._module, name)
        if name in self._aliases:
            return eval(self._aliases[name], {}, self)
        if name in self._modules:
            return importlib.import_module(name)
        if name not in self._imports:
            raise KeyError(name)
        home, named = self._imports[name]
        if home.partition(".")[0] != "coordledger":
            return getattr(importlib.import_module(home), named)
        return _Names(home)[named]


def hints_of(what: Any) -> dict[str, Any]:
    """What a function or a class says of its parameters or fields; the class's bases too.

    Not `typing.get_type_hints`: since Python 3.14 it asks no mapping for a name that is missing.
    """
    hints = {}
    for part in reversed(what.__mro__) if inspect.isclass(what) else [what]:
        if part.__module__.startswith("coordledger"):
            names = _Names(part.__module__)
            for name, said in inspect.get_annotations(part).items():
                hints[name] = eval(getattr(said, "__forward_arg__", said), {}, names)
    return hints


def types_in(hint: Any) -> set[Any]:
    """Every type that `hint` is made of."""
    if isinstance(hint, list | tuple):
        return {leaf for part in hint for leaf in types_in(part)}
    return {hint} | types_in(typing.get_args(hint)) if typing.get_args(hint) else {hint}


def annotated(cls: type) -> list[tuple[str, Any]]:
    """A class and its public methods, each with its name."""
    found: list[tuple[str, Any]] = [(cls.__name__, cls)]
    for name, member in inspect.getmembers(cls):
        plain = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        ours = inspect.isfunction(plain) and plain.__module__.startswith("coordledger")
        if ours and not name.startswith("_"):
            found.append((f"{cls.__name__}.{name}", plain))
    return found


PUBLIC = [found for name in coordledger.__all__ for found in annotated(getattr(coordledger, name))]


@pytest.mark.parametrize(("name", "what"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_public_signatures_use_public_types(name: str, what: Any) -> None:
    public = {getattr(coordledger, exported) for exported in coordledger.__all__}
    hints = hints_of(what)
    if inspect.isfunction(what):
        wanted = set(inspect.signature(what).parameters) - {"self", "cls"} | {"return"}
        assert wanted <= set(hints)
    spoken_of = {
        leaf for field in hints if not field.startswith("_") for leaf in types_in(hints[field])
    }
    inner = {
        leaf for leaf in spoken_of if str(getattr(leaf, "__module__", "")).startswith("coordledger")
    }
    assert inner <= public


def test_public_names_are_all_there_and_imported_when_they_are_used() -> None:
    assert sorted(coordledger.__all__) == coordledger.__all__
    code = "import coordledger, json, sys; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [name for name in json.loads(ran.stdout) if name.startswith("coordledger")] == [
        "coordledger"
    ]


# -- sizes, and tests


def modules(folder: Path) -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text("utf-8"))) for path in sorted(folder.rglob("*.py"))]


def test_no_class_is_too_long_to_be_read_at_once() -> None:
    lines = {
        f"{path.name}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, tree in modules(PACKAGE)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    assert {name: count for name, count in lines.items() if count > MAX_CLASS_LINES} == {}


def test_no_test_module_imports_another() -> None:
    """What several use is in tests/support."""
    statement = re.compile(r"^ *(?:from|import) .*\btest_\w+", re.MULTILINE)
    imported = {
        path.name: found
        for path in (ROOT / "tests").rglob("*.py")
        if (found := statement.findall(path.read_text("utf-8")))
    }
    assert imported == {}
