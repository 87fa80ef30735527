"""States that a lying server made up: a shallow copy takes them on trust, and reads what it can.

Whatever the state, each reading command ends in time with a code of the contract: it is never
called a fault of coordledger's own.
"""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.attack_batch import Batch, evil_server
from support.fleet import LEDGER_REF
from support.hostile import BIDI, ESCAPES, is_harmless

from coordledger.errors import ERRORS
from coordledger.format.state import fact_path, page_path

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from support.attacker import Attacker
    from support.fleet import Fleet

    Ran = subprocess.CompletedProcess[str]

TASK, BOUND = "t0", 60  # seconds for one command, on a busy machine
PAGE = page_path(TASK)
READS = [
    *(["list"], ["list", "--open"], ["show", TASK], ["history", TASK], ["status"], ["inbox"]),
    *(["inbox", "--all"], ["messages", "--channel", "general"], ["channel", "list"]),
    *(
        ["fact", "list"],
        ["fact", "get", "image"],
        ["agent", "list"],
        ["policy"],
        ["head"],
        ["audit", "--full"],
        ["require", TASK],
    ),
    *(["claim", TASK, "--dry-run"], ["claim", "--next", "--dry-run"], ["resolve"]),
]
DEEP = b"[" * 100_000 + b"]" * 100_000
VALUES: list[Any] = [
    *(None, True, -1, 0, 2**53 - 1, 2**53, 10**18, -(10**18), 1.5, "", "x", ESCAPES, BIDI),
    *("\ud800", "9" * 5000, "2026-13-99T99:99:99.999Z", "9999-12-31T23:59:59.999Z"),
    *([], {}, [[]], [None], [TASK], {"a": {"a": 1}}, [1, "x"], ["\ud800"], {ESCAPES: ESCAPES}),
]
FACTS = fact_path("image")
FILES = [
    PAGE,
    "ledger.json",
    "agents/bob.json",
    "inbox/carol.jsonl",
    "channels/general.jsonl",
    FACTS,
]
WHOLE: dict[str, dict[str, bytes | None]] = {
    **{f"{path} is {name}": {path: content} for path in FILES for name, content in {
        "deep": DEEP + b"\n",
        "deep below a name": b'{"task":' + DEEP + b"}\n",
        "an array": b"[]\n",
        "a long number": b'{"task":' + b"9" * 5000 + b"}\n",
        "no text": b"\xff\xfe\n",
        "cut off": b'{"task":"t0"',
        "an empty line": b"\n",
        "nothing": b"",
        "missing": None,
    }.items()},
    "files of other names": {"x": b"x\n", "tasks/x": b"x\n", "agents/\x1b[2J.json": b"{}\n"},
}  # fmt: skip


@pytest.fixture(scope="module")
def lived_in(shared_fleet: Fleet) -> Fleet:
    """Tasks, a claim, messages."""
    batch = Batch(shared_fleet, shared_fleet.root / "batch.git")
    batch.put("bob", "submit", task=TASK, meta={"a": "b"})
    batch.put("bob", "submit", task="t1", after=[TASK])
    batch.put("bob", "claim", tasks=[TASK], note="x")
    batch.put("bob", "send", to="carol", body="x")
    batch.put("bob", "send", channel="general", body="x")
    batch.put("bob", "fact", fact="image", until="2100-01-01T00:00:00.000Z")
    batch.send()
    batch.close()
    return shared_fleet


def mutated(content: bytes, seed: int) -> bytes:
    """A file of the state in which some things are odd."""
    dice = random.Random(seed)
    lines = [json.loads(line) for line in content.splitlines()]
    for _ in range(dice.randint(1, 3)):
        target = dice.choice(lines)
        nested = [value for value in target.values() if isinstance(value, dict) and value]
        listed = target.get("keys")
        keys = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        target = dice.choice([target, *nested, *keys])
        name = dice.choice(sorted(target))
        if dice.random() < 0.2:
            del target[name]
        else:
            target[name] = dice.choice(VALUES)
        if not target:
            break
    if dice.random() < 0.2:
        lines *= 2
    space = dice.random() < 0.1
    texts = [json.dumps(line, separators=None if space else (",", ":")) for line in lines]
    return "".join(f"{text}\n" for text in texts).encode()


def joined(fleet: Fleet, inside: Callable[..., Ran], server: Path, copy: Path) -> bool:
    """Whether the state was taken for a ledger's at all."""
    fleet.git("init", "--quiet", copy)
    argv = ["-C", copy, "join", f"file://{server}", "--agent", "carol", "--depth", "1"]
    ran = inside(fleet, *argv)
    contract_holds(ran, argv)
    return ran.returncode == 0


def read_all(fleet: Fleet, inside: Callable[..., Ran], copy: Path) -> None:
    for argv in READS:
        for form in ([], ["--json"]):
            began = time.monotonic()
            ran = inside(fleet, "-C", copy, *form, *argv)
            assert time.monotonic() - began < BOUND, argv
            contract_holds(ran, argv)


def contract_holds(ran: Ran, argv: list[Any]) -> None:
    said = ran.stdout + ran.stderr
    assert is_harmless(said), (argv, said)
    assert "Traceback" not in said, (argv, said)
    assert "a fault in coordledger" not in said, (argv, said)
    assert ran.returncode in {0, 1, 3, 4, 5}, (argv, ran)
    found = [word for word in said.replace('"', " ").replace(":", " ").split() if word in ERRORS]
    assert "internal" not in found, (argv, said)


@pytest.mark.parametrize("seed", range(60))
def test_a_field_of_any_kind_ends_no_reading_command_in_a_fault(
    lived_in: Fleet, attacker: Attacker, inside: Callable[..., Ran], tmp_path: Path, seed: int
) -> None:
    path = FILES[seed % len(FILES)]
    content = attacker.stand(attacker.tip).state.tree.get(path)
    assert content
    server = evil_server(lived_in, attacker, f"field-{seed}", {path: mutated(content, seed)})
    if joined(lived_in, inside, server, tmp_path / "copy"):
        read_all(lived_in, inside, tmp_path / "copy")


@pytest.mark.parametrize("case", WHOLE)
def test_a_file_of_any_form_ends_no_reading_command_in_a_fault(
    lived_in: Fleet, attacker: Attacker, inside: Callable[..., Ran], tmp_path: Path, case: str
) -> None:
    server = evil_server(lived_in, attacker, f"file-{tmp_path.name}", WHOLE[case])
    if joined(lived_in, inside, server, tmp_path / "copy"):
        read_all(lived_in, inside, tmp_path / "copy")


@pytest.mark.parametrize("mode", ["120000", "160000", "100755", "100664"])
@pytest.mark.parametrize("name", ["tasks", "agents", "ledger.json", "inbox"])
def test_an_entry_of_any_mode_ends_no_reading_command_in_a_fault(
    lived_in: Fleet,
    attacker: Attacker,
    inside: Callable[..., Ran],
    tmp_path: Path,
    name: str,
    mode: str,
) -> None:
    server = evil_server(lived_in, attacker, f"mode-{name}-{mode}", {})
    root = attacker.git("rev-parse", f"{attacker.tip}^{{tree}}")
    target = attacker.tip if mode == "160000" else attacker.add("blob", b"ledger.json")
    entries = [
        (mode, target, one) if one == name else (old.lstrip("0"), oid, one)
        for old, oid, one in attacker.entries(root)
    ]
    head = attacker.render(attacker.signed("bob", "void"), tree=attacker.tree(*entries))
    lived_in.git("update-ref", LEDGER_REF, head, cwd=server)
    if joined(lived_in, inside, server, tmp_path / "copy"):
        read_all(lived_in, inside, tmp_path / "copy")
