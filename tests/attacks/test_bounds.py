"""What a hostile push can cost the server: time and memory of the hook, measured on real git."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from dulwich.objects import Commit as GitCommit
from dulwich.pack import write_pack_objects
from support.attack_batch import Batch
from support.attacker import packet, plain
from support.fleet import LEDGER_REF
from support.ways_in import hand_on

from coordledger.deadline import Deadline
from coordledger.format.commit import Commit, render_commit, successor
from coordledger.format.signing import Signed
from coordledger.format.state import page_path
from coordledger.git.process import Git
from coordledger.server.admission import MAX_INPUT, MAX_RENDERED
from coordledger.setup import hooks
from coordledger.setup.hooks import install_hook

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from support.attacker import Attacker, Pushed
    from support.fleet import Fleet

MEASURE = """
import os, resource, subprocess, sys
code = subprocess.call([{python!r}, *sys.argv[1:]])
children = resource.getrusage(resource.RUSAGE_CHILDREN)
with open({report!r}, "a") as report:
    print(children.ru_maxrss, children.ru_utime + children.ru_stime, file=report)
sys.exit(code)
"""


def processor_time() -> float:
    """Seconds of this process and of those that it has waited for: a busy machine adds none."""
    return sum(os.times()[:4])


class Meter:
    """Runs the hook's Python inside of another, which writes down what it took."""

    def __init__(self, fleet: Fleet, name: str = "pre-receive") -> None:
        self._report = fleet.root / "cost"
        wrapper = fleet.root / "measured"
        script = MEASURE.format(python=sys.executable, report=str(self._report))
        wrapper.write_text(f"#!{sys.executable}\n{script}")
        wrapper.chmod(0o755)
        hook = fleet.remote / "hooks" / name
        line = f"python={shlex.quote(str(wrapper))}"
        hook.write_text(re.sub("(?m)^python=.*", line, hook.read_text()))

    def last(self) -> tuple[float, float]:
        """Megabytes and seconds of the newest run: the hook's own process and its git."""
        kilobytes, seconds = self._report.read_text().splitlines()[-1].split()
        return int(kilobytes) / 1024, float(seconds)


@pytest.fixture(scope="module")
def meter(shared_fleet: Fleet) -> Meter:
    return Meter(shared_fleet)


def of_type(kind: str, attacker: Attacker, path: Path) -> str:
    """A file as an object: nothing of it is held in memory here."""
    ran = plain(
        *("git", "hash-object", "-t", kind, "-w", "--literally", path),
        cwd=attacker.folder,
        env=attacker.fleet.env,
    )
    return ran.stdout.decode().strip()


@pytest.mark.parametrize("kind", ["blob", "commit"])
def test_100_megabytes_at_the_ledgers_ref_are_refused_unread(
    attacker: Attacker, meter: Meter, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        if kind == "commit":
            file.write(attacker.raw(attacker.propose(attacker.signed("bob", "void"))))
        file.truncate(100_000_000)
    for repository in (attacker.folder, attacker.fleet.remote):  # what is packed is not the point
        attacker.fleet.git("config", "core.compression", "1", cwd=repository)
    oid = of_type(kind, attacker, path)
    began = time.monotonic()
    if kind == "commit":
        assert attacker.refusal(oid) == "too-large"
    else:  # the hook alone: git's own part of it is the same
        assert attacker.hook(f"{attacker.tip} {oid} {LEDGER_REF}\n".encode()).slug == "too-large"
    megabytes, seconds = meter.last()
    # git itself reads a whole commit; what is streamed or only asked for costs nothing.
    assert megabytes < (60 if kind == "blob" else 180)
    assert seconds < 2
    assert time.monotonic() - began < 20


def chain_of(attacker: Attacker, count: int) -> str:
    """Many commits on the tip that look like records: one bad pack of them; the newest's id."""
    tip = attacker.head
    signed = attacker.signed("bob", "void")
    objects, parent = [], tip
    for _ in range(count):
        content = render_commit(successor(parent, tip.tree, signed), "hmac-sha256")
        made = GitCommit.from_string(content)
        oid = made.id.decode()
        parent = Commit(
            oid, tip.tree, parent.oid, parent.committed, signed, parent.seq + 1, parent.digest
        )
        objects.append((made, None))
    pack = attacker.folder / "many.pack"
    with pack.open("wb") as file:
        write_pack_objects(file.write, objects, object_format=made.object_format)
    attacker.git("index-pack", "--stdin", data=pack.read_bytes())
    return parent.oid


def test_10000_commits_in_one_push_are_refused_at_the_1025th(
    attacker: Attacker, meter: Meter
) -> None:
    newest = chain_of(attacker, 10_000)
    assert attacker.refusal(newest) == "too-many-records"
    megabytes, seconds = meter.last()
    assert megabytes < 80
    assert seconds < 3


def test_the_time_for_many_records_grows_with_their_number(
    attacker: Attacker, meter: Meter
) -> None:
    ids = attacker.voids(1000)
    spent = {}
    for count in (250, 1000):
        assert attacker.hook(f"{attacker.tip} {ids[count - 1]} {LEDGER_REF}\n".encode()).slug == ""
        megabytes, spent[count] = meter.last()
        assert megabytes < 80
    assert spent[1000] / spent[250] < 6
    assert spent[1000] < 5


def filled(batch: Batch, agent: str, **given: Any) -> tuple[str, str]:
    """The newest of as many and as large records as one push may render, and one more."""
    total, ids, body = 0, [], "x" * 65_536
    while total <= MAX_RENDERED:
        ids.append(batch.put(agent, "send", channel=f"c{len(ids) % 250}", body=body, **given))
        total += batch.chain.rendered
    assert len(ids) > 200
    return ids[-2], ids[-1]


def test_as_many_and_as_large_records_as_a_push_may_bring(
    shared_fleet: Fleet, attacker: Attacker, meter: Meter, tmp_path: Path
) -> None:
    batch = Batch(shared_fleet, tmp_path / "batch.git")
    newest, more = filled(batch, "bob")
    assert batch.hook(f"{attacker.tip} {newest} {LEDGER_REF}\n".encode()).slug == ""
    assert batch.hook(f"{attacker.tip} {more} {LEDGER_REF}\n".encode()).slug == "too-much"
    batch.close()
    megabytes, seconds = meter.last()
    assert megabytes < 250
    assert seconds < 10


@pytest.mark.parametrize("hook", ["pre-receive", "proc-receive"])
def test_the_same_to_be_sequenced(
    make_fleet: Callable[..., Fleet],
    attacker_for: Callable[[Fleet], Attacker],
    tmp_path: Path,
    hook: str,
) -> None:
    fleet = make_fleet()
    install_hook(fleet.remote, Git(fleet.env, fleet.root, Deadline(20)), sequence=True)
    if hook == "proc-receive":
        hand_on(fleet)
    meter, attacker = Meter(fleet, hook), attacker_for(fleet)
    batch = Batch(fleet, tmp_path / "batch.git")
    base = {"seq": batch.head.seq, "digest": batch.head.digest}
    newest, more = filled(batch, "alice", base=base)
    assert attacker.push(attacker.voids(1)[0]).slug == ""  # so that each is rendered anew
    assert batch.push(f"{more}:refs/for/coordledger/main.answered").slug == "too-much"
    pushed = batch.push(f"{newest}:refs/for/coordledger/main.answered")
    batch.close()
    assert pushed.slug == ""
    assert pushed.err.count("coordledger: landed ") > 200
    megabytes, seconds = meter.last()
    assert megabytes < 250
    assert seconds < 10


def test_a_record_that_looks_everywhere_in_a_full_page_costs_little(fleet: Fleet) -> None:
    """16 tasks that wait for 16 others each, all of them in one full page."""
    fleet.enroll("bob")
    batch, meter = Batch(fleet, fleet.root / "batch.git"), Meter(fleet)
    wanted = sha256(b"x0").digest()
    wanted = bytes([wanted[0] & 63, wanted[1] & 63])
    names, number = [], 0
    while len(names) < 36:
        digest = sha256(b"x%d" % number).digest()
        if digest[0] & 63 == wanted[0] and digest[1] & 63 == wanted[1]:
            names.append(f"x{number}")
        number += 1
    assert len({page_path(name) for name in names}) == 1
    meta = dict.fromkeys("abc", "z" * 1024)
    first, tasks = sorted(names[:16]), sorted(names[16:32])
    for name in first:
        batch.put("bob", "submit", task=name, meta=meta)
        batch.put("bob", "claim", tasks=[name])
        batch.put("bob", "complete", task=name)
    for name in tasks:
        batch.put("bob", "submit", task=name, meta=meta, after=first)
    for name in names[32:]:
        batch.put("bob", "submit", task=name, meta=meta)
    batch.send()
    size = len(fleet.git("show", f"{LEDGER_REF}:{page_path('x0')}"))
    assert 115_000 < size <= 131_072
    batch.put("bob", "claim", tasks=tasks)
    batch.send()
    batch.close()
    megabytes, seconds = meter.last()
    assert seconds < 0.5
    assert megabytes < 80


def test_a_ref_that_stands_in_the_list_twice_is_refused_and_checked_once(
    attacker: Attacker,
) -> None:
    """Each line would cost a full check, and git takes thousands of them."""
    head, new = attacker.tip, attacker.voids(200)[-1]
    line = f"{head} {new} {LEDGER_REF}"
    began = processor_time()
    assert attacker.hook(f"{line}\n".encode() * 2000).slug == "bad-push"
    assert processor_time() - began < 5

    commands = [packet(f"{line}\0report-status".encode()), packet(line.encode())]
    pack = plain(
        *("git", "pack-objects", "--stdout", "--revs", "-q"),
        cwd=attacker.folder,
        env=attacker.fleet.env,
        data=f"{new}\n^{head}\n".encode(),
    ).stdout
    ran = plain(
        *("git", "receive-pack", attacker.fleet.remote),
        cwd=attacker.folder,
        env=attacker.fleet.env,
        data=b"".join(commands) + b"0000" + pack,
    )
    assert b"bad-push" in ran.stderr
    assert attacker.tip == head


def listed(count: int, ref: str) -> bytes:
    return b"".join(b"%040d %040d %s%d\n" % (0, 1, ref.encode(), n) for n in range(count))


@pytest.mark.parametrize(
    ("ref", "slug"),
    [
        ("refs/heads/x", ""),
        ("refs/coordledgers/x", ""),
        ("refs/coordledger/x", "no-create"),
        ("refs/coordledger-try/x", "no-create"),
        ("refs/coordledger/X", "bad-ref"),
    ],
)
def test_10000_refs_in_one_push_cost_no_more_than_reading_them(
    attacker: Attacker, ref: str, slug: str
) -> None:
    began = processor_time()
    assert attacker.hook(listed(10_000, ref)).slug == slug
    assert processor_time() - began < 3


def test_a_list_of_refs_without_end_is_refused(attacker: Attacker, meter: Meter) -> None:
    endless = listed(170_000, "refs/coordledger-of-ours/x" * 2)
    assert len(endless) > MAX_INPUT
    assert attacker.hook(endless).slug == "too-large"
    assert meter.last()[0] < 80


def deep(attacker: Attacker, payload: bytes) -> Pushed:
    good = attacker.signed("bob", "void")
    signed = Signed(payload, good.record, attacker.secret("bob").sign(payload))
    return attacker.push(attacker.render(signed))


@pytest.mark.parametrize(
    ("payload", "slug"),
    [
        (b"[" * 131_072, "bad-json"),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "bad-json"),
        (b"[" * 9 + b"]" * 9, "bad-json"),
        (b"9" * 131_072, "bad-json"),
        (b"[" + b"1e999999999," * 1000 + b"1]", "bad-json"),
        (b"[" * 131_073, "too-large"),
    ],
    ids=["brackets", "objects", "nine", "digits", "exponents", "large"],
)
def test_a_payload_made_to_exhaust_a_parser_is_refused(
    attacker: Attacker, payload: bytes, slug: str
) -> None:
    assert deep(attacker, payload).slug == slug


@pytest.mark.parametrize("already", ["unset", "true", "global"])
def test_no_push_cuts_the_history_by_calling_its_commit_parentless(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker], already: str
) -> None:
    """receive.shallowUpdate would let one record make the server's copy shallow, for all."""
    from coordledger.deadline import Deadline
    from coordledger.git.process import Git

    git = Git(fleet.env, fleet.root, Deadline(30))
    if already == "true":
        fleet.git("config", "receive.shallowUpdate", "true")
        assert "cut the ledger" in fleet.run("doctor", agent="alice", check=1).stdout
    if already == "global":
        path = fleet.root / "gitconfig"
        path.write_text("[receive]\n\tshallowUpdate = yes\n")
        git = Git(fleet.env | {"GIT_CONFIG_GLOBAL": str(path)}, fleet.root, Deadline(30))
    said = hooks.install_hook(fleet.remote, git, python=sys.executable)
    assert ("shallowUpdate=false" in " ".join(said)) == (already != "unset")
    attacker = attacker_for(fleet)
    head, new = attacker.tip, attacker.propose(attacker.signed("alice", "void"))
    pack = plain(
        *("git", "pack-objects", "--stdout", "--revs", "-q"),
        cwd=attacker.folder,
        env=fleet.env,
        data=f"{new}\n^{head}\n".encode(),
    ).stdout
    commands = packet(f"shallow {new}".encode())
    commands += packet(f"{head} {new} {LEDGER_REF}\0report-status".encode()) + b"0000"
    env = fleet.env
    if already == "global":
        env = env | {"GIT_CONFIG_GLOBAL": str(path)}
    ran = plain(
        "git", "receive-pack", fleet.remote, cwd=attacker.folder, env=env, data=commands + pack
    )
    assert b"ng " + LEDGER_REF.encode() in ran.stdout
    assert attacker.tip == head
    assert not (fleet.remote / "shallow").exists()
    assert fleet.ledger("alice").audit(full=True).verdicts == {"authentic": 1}
