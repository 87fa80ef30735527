"""`run`: the command's exit code, its signals, its task, and its end with the lease."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.runs import Running, beat, is_alive, listen, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.fleet import Fleet

SKEW = 2.0


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    fleet = make_fleet(max_skew=2)
    fleet.enroll("bob")
    fleet.ledger("alice").submit("t")
    return fleet


@pytest.fixture
def run(fleet: Fleet) -> Iterator[Callable[..., Running]]:
    """Starts `coordledger run`, as bob."""
    made: list[Running] = []

    def start(*argv: str, **kw) -> Running:
        made.append(Running(fleet, kw.pop("agent", "bob"), *argv, **kw))
        return made[-1]

    yield start
    for one in made:
        one.close()


WAIT = "while [ ! -e $SEEN/go ]; do sleep 0.05; done"


def sh(script: str) -> tuple[str, ...]:
    return ("--", "sh", "-c", script)


# -- the end of the command


def test_the_exit_code_is_the_commands_and_a_failure_gives_the_task_back(run):
    one = run("t", *sh("echo out; echo err >&2; exit 7"))
    assert one.end() == (7, "out\n", "err\n")
    assert one.claim().status == "open"
    assert one.claim().last.text == "exit 7"


def test_a_command_that_dies_by_a_signal_gives_128_and_its_number(run):
    one = run("t", "--complete", *sh("kill -9 $$"))
    assert one.end() == (137, "", "")
    assert (one.claim().status, one.claim().last.text) == ("open", "signal 9")


@pytest.mark.parametrize(("flags", "status"), [(("--complete",), "done"), ((), "open")])
def test_exit_0_completes_the_task_if_that_was_asked_for(run, flags, status):
    one = run("t", *flags, *sh("exit 0"))
    assert one.end() == (0, "", "")
    assert one.claim().status == status


def test_input_and_output_are_the_commands(run):
    one = run("t", "--", "cat", stdin=subprocess.PIPE)
    out, err = one.process.communicate("through\n", timeout=60)
    assert (out, err, one.process.returncode) == ("through\n", "", 0)


def test_a_task_that_another_has_is_not_won_and_nothing_is_started(fleet, run):
    fleet.ledger("alice").claim("t")
    one = run("t", *sh("touch $SEEN/started"))
    code, out, err = one.end()
    assert (code, out) == (123, "")
    assert "held by alice" in err
    assert not (one.seen / "started").exists()


def test_a_task_that_is_waited_for_is_run_with_its_whole_lease(fleet, run):
    fleet.ledger("alice").claim("t")
    one = run("t", "--wait", "2m", "--ttl", "30s", "--complete", *sh("sleep 2"))
    time.sleep(3)
    fleet.ledger("alice").release("t")
    assert one.end() == (0, "", "")
    assert one.kinds() == ["submit", "claim", "release", "claim", "complete"]


def test_a_signal_ends_the_wait_for_a_claim(fleet, run):
    fleet.ledger("alice").claim("t")
    one = run("t", "--wait", "2m", *sh("touch $SEEN/started"))
    time.sleep(3)
    one.process.send_signal(signal.SIGINT)
    assert one.end()[0] == 130
    assert not (one.seen / "started").exists()


def test_what_fails_before_the_start_is_120_and_the_code_of_the_error(fleet, run):
    assert run("t", "u", "--", "true").end()[0] == 122
    for argv in (("t",), ("t", "true"), ("t", "--")):
        code, _, err = run(*argv).end()
        assert (code, "comes after --" in err) == (122, True)
    fleet.remote.rename(f"{fleet.remote}.away")
    code, _, err = run("t", "--", "true").end()
    assert code == 121
    assert "cannot reach" in err


def test_a_typing_error_burns_no_claim(run, fleet):
    plain = fleet.root / "plain"
    plain.write_text("no program")
    for command, code in (("no-such-command", 127), (str(plain), 126), ("./no/such", 127)):
        one = run("t", "--", command)
        assert one.end()[0] == code
        assert one.kinds() == ["submit"]


def test_what_cannot_be_started_after_all_gives_the_task_back(run, fleet):
    script = fleet.root / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    one = run("t", "--", str(script))
    assert one.end()[0] == 127
    assert one.kinds() == ["submit", "claim", "release"]


def test_a_script_without_a_first_line_is_the_shells(run, fleet):
    script = fleet.root / "script"
    script.write_text("exit 5\n")
    script.chmod(0o755)
    assert run("t", "--", str(script)).end()[0] == 5


def test_a_lease_that_leaves_no_time_is_refused(run):
    one = run("t", "--ttl", "1s", "--", "true")
    code, _, err = one.end()
    assert code == 121
    assert "max_skew" in err
    assert "claim" not in one.kinds()


def test_the_report_has_a_line_for_each_command(run, fleet):
    report = fleet.root / "report"
    assert run("t", "--report", str(report), *sh("exit 3")).end()[0] == 3
    assert run("t", "--report", str(report), "--complete", "--", "true").end()[0] == 0
    first, second = map(json.loads, report.read_text().splitlines())
    assert (first["task"], first["epoch"], first["status"]) == ("t", 1, "released")
    assert first["command"] == {"code": 3, "signal": None}
    assert (second["epoch"], second["status"], second["exit_code"]) == (2, "done", 0)
    assert second["error"] is None


def test_a_report_that_cannot_be_written_hides_no_exit_code(run):
    code, _, err = run("t", "--report", "/dev/full", *sh("exit 7")).end()
    assert code == 7
    assert "no line for t is in the report: No space left" in err


# -- while it runs


def test_the_command_knows_its_claim_and_acts_as_its_session(run):
    words = " ".join(map(shlex.quote, (sys.executable, "-m", "coordledger")))
    one = run(
        "t",
        "--session",
        "worker-7",
        *sh(
            f'{words} require "$COORDLEDGER_TASK" --epoch "$COORDLEDGER_EPOCH" > $SEEN/required'
            f' && {words} renew "$COORDLEDGER_TASK" --ttl 2h --json'
            f' && {words} complete "$COORDLEDGER_TASK" --result mine > $SEEN/completed'
            ' && echo "$COORDLEDGER_AGENT/$COORDLEDGER_SESSION $COORDLEDGER_UNTIL" > $SEEN/who'
        ),
    )
    code, out, err = one.end()
    assert (code, err) == (0, "")
    assert json.loads(out)["outcome"] == "renewed"
    assert one.wait_for("who").startswith("bob/worker-7 20")
    assert (one.claim().status, one.claim().result) == ("done", "mine")


def test_a_lease_is_renewed_for_as_long_as_the_command_runs(run):
    one = run("t", "--ttl", "12s", "--complete", *sh("sleep 16"))
    assert one.end() == (0, "", "")
    assert one.kinds().count("renew") >= 2
    assert one.claim().status == "done"


def test_a_command_that_completed_its_task_itself_is_left_to_end(run):
    words = " ".join(map(shlex.quote, (sys.executable, "-m", "coordledger")))
    one = run("t", "--ttl", "8s", *sh(f"{words} complete t > $SEEN/done; sleep 10; exit 4"))
    assert one.end() == (4, "", "")
    assert one.claim().status == "done"


def test_run_waits_without_work(run):
    words = " ".join(map(shlex.quote, (sys.executable, "-m", "coordledger")))
    beats = " ".join(map(shlex.quote, beat("SIGTERM")))
    one = run("t", "--ttl", "8s", *sh(f"{words} complete t > $SEEN/done; {beats}"))
    one.wait_for("beats")
    wait_until(lambda: len(one.kinds()) == 3, "not completed")
    time.sleep(2)  # until a look has seen it
    before = awakenings(one.process.pid)
    time.sleep(3)
    assert awakenings(one.process.pid) - before < 30


def awakenings(pid: int) -> int:
    """How often a process has waited for something."""
    [line] = [
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    ]
    return int(line.split()[1])


def test_an_offer_to_another_agent_is_not_withdrawn_by_a_renewal(run, fleet):
    words = " ".join(map(shlex.quote, (sys.executable, "-m", "coordledger")))
    beats = " ".join(map(shlex.quote, beat()))
    one = run("t", "--ttl", "12s", *sh(f"{words} handoff t --to alice > $SEEN/offered; {beats}"))
    one.wait_for("beats")
    wait_until(lambda: one.claim().offered_to == "alice", "it was not offered")
    end = one.usable_until(SKEW)
    wait_until(lambda: time.time() > end - 4.5, "half of the lease has not passed")
    assert fleet.ledger("alice").claim("t").won
    code, _, err = one.end()
    assert code == 120
    assert "alice's now" in err
    assert "renew" not in one.kinds()


def test_the_command_inherits_the_callers_files_and_signals_and_nothing_of_run(run):
    told = "ls /proc/self/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status"
    code, out, err = run("t", *sh(told)).end()
    assert (code, err) == (0, "")
    assert out.split()[:4] == ["0", "1", "2", "3"]  # the last one is the listing's own
    assert out.split()[4:] == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


def test_a_hangup_that_the_caller_ignores_is_ignored_by_both(run, fleet):
    words = ["nohup", sys.executable, "-m", "coordledger", "run", "t", "--"]
    ran = subprocess.run(
        [*words, "grep", "SigIgn", "/proc/self/status"],
        cwd=fleet.clone("bob"),
        env=fleet.env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(ran.stdout.split()[1], 16) == 1 << (signal.SIGHUP - 1)


@pytest.mark.parametrize("name", ["INT", "HUP", "QUIT", "USR1", "USR2", "WINCH"])
def test_a_signal_is_passed_on(run, name):
    one = run("t", "--", *listen(f"SIG{name}", "SIGTERM"))
    wait_until((one.seen / "ready").exists, "not ready")
    one.process.send_signal(getattr(signal, f"SIG{name}"))
    one.wait_for_line("heard", f"SIG{name}")
    one.process.send_signal(signal.SIGTERM)
    assert one.end() == (9, "", "")
    assert one.claim().last.text == "exit 9"


def test_signals_reach_the_whole_group(run):
    one = run("t", *sh(f"{' '.join(map(shlex.quote, beat()))} & wait"))
    pid = one.pid("beats")
    one.process.send_signal(signal.SIGTERM)
    assert one.end()[0] == 143
    wait_until(lambda: not is_alive(pid), "it outlived TERM")


def test_what_is_left_of_the_group_ends_before_the_task_is_given_back(run):
    beats = " ".join(map(shlex.quote, beat("SIGTERM")))
    one = run("t", *sh(f"{beats} & while [ ! -s $SEEN/beats ]; do sleep 0.1; done"))
    assert one.end()[0] == 0
    released = one.claim().last.at.timestamp()
    assert one.last_beat() < released
    assert not is_alive(one.pid("beats"))


# -- a lease that is lost


@pytest.mark.parametrize("ignored", [(), ("SIGTERM",)])
def test_a_forced_release_ends_the_command(run, fleet, ignored):
    one = run("t", "--ttl", "3m", "--", *beat(*ignored))
    pid = one.pid("beats")
    fleet.ledger("alice").release("t", force=True)  # half of the lease is longer than the test
    code, out, err = one.end()
    assert (code, out) == (120, "")
    assert "it was released by alice" in err
    assert not is_alive(pid)
    assert one.kinds() == ["submit", "claim", "release"]


@pytest.mark.parametrize("ignored", [(), ("SIGTERM", "SIGINT", "SIGHUP")])
def test_a_command_is_dead_before_a_lease_that_cannot_be_renewed_can_be_taken(run, fleet, ignored):
    one = run("t", "--ttl", "8s", "--", *beat(*ignored))
    pid = one.pid("beats")
    until = one.usable_until(SKEW)
    fleet.remote.rename(f"{fleet.remote}.away")
    code, _, err = one.end()
    assert code == 120
    assert not is_alive(pid)
    assert until - 4 < one.last_beat() < until
    assert err.count("could not be renewed: ") == 1
    assert err.count("\n") == 3


def test_a_remote_that_is_away_for_a_moment_ends_nothing(run, fleet):
    one = run("t", "--ttl", "20s", "--complete", *sh("sleep 22"))
    wait_until(lambda: one.claim().status == "claimed", "not claimed")
    ends = one.usable_until(SKEW)
    fleet.remote.rename(f"{fleet.remote}.away")
    wait_until(lambda: time.time() > ends - 8.5, "half of the lease has not passed")
    fleet.remote.with_name(f"{fleet.remote.name}.away").rename(fleet.remote)
    code, _, _ = one.end()
    assert code == 0
    assert one.claim().status == "done"


def test_what_has_left_the_group_ends_with_a_lost_lease(run, fleet):
    inner = " ".join(map(shlex.quote, (*beat("SIGTERM", name="away"), "setsid")))
    outer = " ".join(map(shlex.quote, beat()))
    one = run("t", "--ttl", "20s", *sh(f"({inner} &); {outer}"))
    pids = one.pid("away"), one.pid("beats")
    fleet.ledger("alice").release("t", force=True)
    assert one.end()[0] == 120
    assert [is_alive(pid) for pid in pids] == [False, False]


def test_a_run_in_a_run_leaves_nothing_behind_when_the_outer_lease_is_lost(run, fleet):
    """Both of the inner one's processes are killed before they have ended anything."""
    grand = " ".join(map(shlex.quote, beat("SIGTERM", name="grand")))
    away = " ".join(map(shlex.quote, (*beat("SIGTERM", name="away"), "setsid")))
    script = f"trap '' TERM; echo $$ $PPID > $SEEN/shell; {grand} & ({away} &); wait"
    words = (sys.executable, "-m", "coordledger", "run", "inner", "--session", "inner")
    one = run("t", "--ttl", "20s", "--", *words, "--", "sh", "-c", script)
    pids = one.pid("grand"), one.pid("away")
    shell, inner = map(int, one.wait_for("shell").split())
    [watcher] = children(inner) - {shell}
    os.kill(watcher, signal.SIGSTOP)  # it would win by chance
    fleet.ledger("alice").release("t", force=True)
    assert one.end()[0] == 120
    assert [is_alive(pid) for pid in pids] == [False, False]


# -- when `run` itself is killed or stopped


def test_a_killed_run_leaves_nothing_behind(run):
    grand = " ".join(map(shlex.quote, beat("SIGTERM", name="grand")))
    away = " ".join(map(shlex.quote, (*beat("SIGTERM", name="away"), "setsid")))
    own = " ".join(map(shlex.quote, beat("SIGTERM", name="own")))
    one = run("t", *sh(f"{grand} & ({away} &); {own}; true"))
    pids = [one.pid(name) for name in ("grand", "away", "own")]
    one.process.kill()
    for pid in pids:
        wait_until(lambda pid=pid: not is_alive(pid), f"{pid} outlived its run", 20)


def test_a_killed_run_and_watcher_take_the_command_with_them(run):
    one = run("t", "--", *beat("SIGTERM"))
    pid = one.pid("beats")
    [watcher] = children(one.process.pid) - {pid}
    one.process.send_signal(signal.SIGSTOP)
    os.kill(watcher, signal.SIGKILL)
    one.process.kill()
    wait_until(lambda: not is_alive(pid), "it outlived its run", 20)


def test_a_watcher_that_is_killed_has_a_successor(run):
    one = run("t", "--", *beat("SIGTERM"))
    pid = one.pid("beats")
    [first] = children(one.process.pid) - {pid}
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: children(one.process.pid) - {pid, first}, "there is no other one")
    one.process.kill()
    wait_until(lambda: not is_alive(pid), "it outlived its run", 20)


def children(pid: int) -> set[int]:
    ran = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, check=False)
    found = set(map(int, ran.stdout.split()))
    return {one for one in found if is_alive(one)}


@pytest.mark.parametrize("ignored", [(), ("SIGTERM",)])
def test_a_command_does_not_outlive_its_lease_while_run_is_stopped(run, ignored):
    one = run("t", "--ttl", "8s", "--", *beat(*ignored))
    pid = one.pid("beats")
    until = one.usable_until(SKEW)
    one.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: not is_alive(pid), "it outlives its lease", 20)
    assert until - 4 < one.last_beat() < until
    one.process.send_signal(signal.SIGCONT)
    assert one.end()[0] == 120


# -- what was under way, and the end


def test_a_renewal_under_way_when_the_command_ends_leaves_nothing_open(run, fleet, push_gate):
    one = run("t", "--ttl", "20s", *sh(f"{WAIT}; exit 7"))
    wait_until(lambda: one.kinds() == ["submit", "claim"], "not claimed")
    push_gate.set("hold")
    push_gate.wait_for("holding")
    (one.seen / "go").touch()
    time.sleep(0.3)  # the command has ended, and the renewal has not
    push_gate.open()
    assert one.end() == (7, "", "")
    assert one.kinds() == ["submit", "claim", "renew", "release"]
    assert intents(fleet, "bob") == []


def intents(fleet: Fleet, agent: str) -> list[object]:
    return fleet.ledger(agent).connection.local.journal.intents()


def test_a_completion_is_tried_until_the_remote_is_back(run, fleet):
    one = run("t", "--ttl", "30s", "--complete", *sh(WAIT))
    wait_until(lambda: one.kinds() == ["submit", "claim"], "not claimed")
    fleet.remote.rename(f"{fleet.remote}.away")
    (one.seen / "go").touch()
    time.sleep(2)
    assert one.process.poll() is None
    fleet.remote.with_name(f"{fleet.remote.name}.away").rename(fleet.remote)
    assert one.end() == (0, "", "")
    assert one.claim().status == "done"


@pytest.mark.parametrize(("own", "code"), [(0, 121), (7, 7)])
def test_a_task_that_could_not_be_settled_is_no_success(run, fleet, own, code):
    one = run("t", "--ttl", "6s", "--complete", *sh(f"{WAIT}; exit {own}"))
    wait_until(lambda: one.kinds() == ["submit", "claim"], "not claimed")
    fleet.remote.rename(f"{fleet.remote}.away")
    (one.seen / "go").touch()
    ended, _, err = one.end()
    assert ended == code
    assert "cannot reach" in err


def test_an_answer_that_was_lost_is_settled_before_the_end(run, fleet, push_gate):
    one = run("t", "--ttl", "60s", "--complete", *sh(WAIT))
    wait_until(lambda: one.kinds() == ["submit", "claim"], "not claimed")
    push_gate.set("kill-landed")
    (one.seen / "go").touch()
    push_gate.wait_for("killed")
    assert one.end() == (0, "", "")
    assert one.kinds() == ["submit", "claim", "complete"]
    assert intents(fleet, "bob") == []


def test_what_may_have_landed_when_the_remote_went_away_is_125(run, fleet, push_gate):
    one = run("t", "--ttl", "12s", "--complete", *sh(WAIT))
    wait_until(lambda: one.kinds() == ["submit", "claim"], "not claimed")
    push_gate.set("vanish-landed", "kill-landed")
    (one.seen / "go").touch()
    push_gate.wait_for("vanished")
    code, _, err = one.end()
    push_gate.bring_back()
    assert code == 125
    assert "coordledger resolve" in err
    assert fleet.run("resolve", agent="bob").returncode == 0
    assert one.claim().status == "done"


def test_a_signal_ends_the_wait_for_a_remote_that_is_away(run, fleet):
    one = run("t", "--complete", *sh(WAIT))
    wait_until(lambda: one.kinds() == ["submit", "claim"], "not claimed")
    fleet.remote.rename(f"{fleet.remote}.away")
    (one.seen / "go").touch()
    time.sleep(1)
    one.process.send_signal(signal.SIGTERM)
    assert one.end()[0] == 121


def test_the_same_session_runs_one_command_under_a_claim(run, fleet):
    first = run("t", "--session", "s", "--", *beat())
    first.wait_for("beats")
    code, _, err = run("t", "--session", "s", "--", "true").end()
    assert (code, "--resume" in err) == (123, True)
    code, _, err = run("t", "--session", "s", "--resume", "--", "true").end()
    assert (code, "already" in err) == (123, True)
    first.process.kill()
    pid = first.pid("beats")
    wait_until(lambda: not is_alive(pid), "it outlived its run", 20)
    assert run("t", "--session", "s", "--resume", "--complete", "--", "true").end()[0] == 0
    assert first.claim().status == "done"


def test_what_a_killed_run_has_left_is_resumed_in_its_worktree(run):
    first = run("t", "--", *beat())
    first.wait_for("beats")
    first.process.kill()
    assert run("t", "--", "true").end()[0] == 123
    assert run("t", "--resume", "--", "true").end()[0] == 0


# -- one after the other


def test_restart_takes_one_task_after_the_other_until_there_is_none(run, fleet):
    fleet.ledger("alice").submit("u", priority=5)
    fleet.ledger("alice").submit("v", after=["u"])
    script = sh('echo "$COORDLEDGER_TASK"')
    one = run("--next", "--restart", "--complete", *script)
    code, out, err = one.end()
    assert code == 0
    assert out.split() == ["u", "t", "v"]
    assert [line.split()[2] for line in err.splitlines()] == ["u", "t", "v"]
    assert {claim.status for claim in fleet.ledger("alice").tasks()} == {"done"}


def test_restart_goes_on_after_a_failure_and_ends_after_three_in_a_row(run, fleet):
    for number in range(5):
        fleet.ledger("alice").submit(f"u{number}", priority=5 - number)
    script = sh('echo "$COORDLEDGER_TASK"; [ "$COORDLEDGER_TASK" = u1 ] || exit 6')
    one = run("--next", "--restart", "--complete", *script)
    code, out, err = one.end()
    assert (code, out.split()) == (6, ["u0", "u1", "u2", "u3", "u4"])
    assert "3 commands in a row" in err


def test_a_signal_to_run_ends_restarting(run, fleet):
    fleet.ledger("alice").submit("u")
    one = run("--next", "--restart", "--complete", "--", *listen("SIGTERM"))
    wait_until((one.seen / "ready").exists, "not ready")
    one.process.send_signal(signal.SIGTERM)
    assert one.end()[0] == 9
    assert "claim" not in one.kinds("u")


def test_nothing_to_do_is_123_once_and_0_for_restart(run, fleet):
    fleet.ledger("bob").claim("t")
    fleet.ledger("bob").complete("t")
    assert run("--next", "--", "true").end()[0] == 123
    assert run("--next", "--restart", "--", "true").end() == (0, "", "")
