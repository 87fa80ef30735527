"""One process of a fleet: python worker.py TASK CLONE AGENT SESSION GO ARGUMENT...

It starts when the file GO is there, and prints one JSON value a line.
"""

from __future__ import annotations

import json
import random
import sys
import time
from datetime import timedelta
from pathlib import Path

from coordledger import Failed, Ledger, Lost

PATIENCE = timedelta(seconds=25)


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def claim(ledger: Ledger, *tasks: str) -> None:
    for task in tasks:
        result = ledger.claim(task)
        epoch = result.claim.epoch if result.claim else 0
        say(task=task, outcome=result.outcome, code=result.code, epoch=epoch)


def compete(ledger: Ledger, seed: str, *tasks: str) -> None:
    """Claim all of the tasks, in an order of one's own."""
    order = list(tasks)
    random.Random(seed).shuffle(order)
    claim(ledger, *order)


def churn(ledger: Ledger, seed: str, wins: str, *tasks: str) -> None:
    """Take and give tasks, so many times; a live lease must never be lost."""
    dice = random.Random(seed)
    end, won = time.monotonic() + 15, 0
    while won < int(wins) and time.monotonic() < end:
        task = dice.choice(tasks)
        result = ledger.claim(task, reopen=True)
        if not result.won or not result.claim:
            say(task=task, outcome=result.outcome, code=result.code)
            time.sleep(0.02)
            continue
        won += 1
        done = dice.choice(("complete", "release"))
        try:
            (ledger.complete if done == "complete" else ledger.release)(task)
        except Lost as lost:
            done = f"lost its lease: {lost.code}"
        say(task=task, outcome="won", epoch=result.claim.epoch, done=done)


def send(ledger: Ledger, count: str, to: str, channel: str) -> None:
    me = ledger.connection.settings.need_agent
    for number in range(int(count)):
        body = f"{me}/{ledger.connection.settings.session} {number}"
        sent = ledger.send(body, to=to) if number % 2 else ledger.send(body, channel=channel)
        say(body=body, seq=sent.seq, to=sent.to)


def count(ledger: Ledger, key: str, times: str) -> None:
    """Raise a fact by one, so many times, each time only where it is as it was read."""
    for _ in range(int(times)):
        while True:
            try:
                fact = ledger.facts.get(key)
            except Failed as none:
                if none.code != "unknown-fact":
                    raise
                number, rev = 0, 0
            else:
                number, rev = int(fact.value), fact.rev
            try:
                said = ledger.facts.set(key, str(number + 1), if_rev=rev)
            except Lost as lost:
                say(code=lost.code)
                continue
            say(number=number + 1, was=rev, rev=said.rev)
            break


def juggle(ledger: Ledger, seed: str, end: str, *names: str) -> None:
    """Claim tasks, edit them and hand them over, until the time is over; what is lost was given."""
    dice, me = random.Random(seed), ledger.connection.settings.need_agent
    others, tasks = [name for name in names if name != me], ("a", "b", "c")
    over = time.monotonic() + float(end)
    while time.monotonic() < over:
        task = dice.choice(tasks)
        result = ledger.claim(task, reopen=True)
        if not result.won or not result.claim:
            say(task=task, outcome=result.outcome, code=result.code)
            continue
        given, done = "", ""
        try:
            if dice.random() < 0.4:
                ledger.edit(task, title=f"{me} has it")
            if dice.random() < 0.6:
                given = ledger.handoff(task, to=dice.choice(others)).offered_to or ""
                time.sleep(dice.random() / 4)  # some of the offers are taken
            done = dice.choice(("complete", "release"))
            (ledger.complete if done == "complete" else ledger.release)(task)
        except Lost as lost:
            done = lost.code
        by = result.claim.handed_over_by
        say(task=task, outcome="won", epoch=result.claim.epoch, by=by, given=given, done=done)


def main() -> None:
    task, clone, agent, session, go, *arguments = sys.argv[1:]
    with Ledger.open(clone, agent, session=session or None, timeout=PATIENCE) as ledger:
        end = time.monotonic() + 20
        while not Path(go).exists() and time.monotonic() < end:
            time.sleep(0.005)
        tasks = {"claim": claim, "compete": compete, "churn": churn, "send": send}
        tasks |= {"count": count, "juggle": juggle}
        tasks[task](ledger, *arguments)


if __name__ == "__main__":
    main()
