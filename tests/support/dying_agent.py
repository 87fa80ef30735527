"""A process that forks one agent after another, and lets them die where they are told to.

Each line of standard input is one JSON request:

    {"clone": PATH, "agent": NAME, "steps": [[METHOD, ARGUMENT...], ...], "die_at": POINT}

An object among a step's arguments has those that are named.
A child runs the steps with a `Ledger` of its own and kills itself with SIGKILL just before
the named change (or the one of that number) of anything outside of itself: a file is opened for
writing, renamed or removed, a lock taken, a process started. Without a point it lives. What it said
before it ended comes back as one line of JSON, with the points that it passed. Forking saves
the imports, which cost more than a claim.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import sys
from datetime import timedelta
from typing import Any

from coordledger import Ledger
from coordledger.client.claims import to_json
from coordledger.errors import CoordledgerError
from coordledger.git import refs

SECONDS = 25  # that a child may take
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate", "fcntl.flock")
_STARTS = ("os.posix_spawn", "subprocess.Popen")


def main() -> None:
    refs.LOCK_SECONDS = 0.1  # many stale locks are waited for here
    for line in sys.stdin:
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours)
            signal.alarm(SECONDS)
            with os.fdopen(theirs, "w") as out:
                _live(json.loads(line), out)
                out.flush()
                os._exit(0)
        os.close(theirs)
        with os.fdopen(ours) as answer:
            said = [json.loads(part) for part in answer]
        _, status = os.waitpid(child, 0)
        points = [part["point"] for part in said if "point" in part]
        said = [part["said"] for part in said if "said" in part]
        died = -os.waitstatus_to_exitcode(status)
        print(json.dumps({"died": died, "said": said, "points": points}), flush=True)


def _live(request: dict[str, Any], out: Any) -> None:
    starts, passed = 0, itertools.count(1)  # threads pass at the same time
    die_at = request.get("die_at")

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal starts
        if event == "open":
            path, _, flags = arguments
            if not flags & _WRITES or path == os.devnull:
                return
        elif event not in (*_EVENTS, *_STARTS):
            return
        point = f"{starts} {event} {_kind(arguments[0])}"
        starts += event in _STARTS
        out.write(json.dumps({"point": point}) + "\n")
        if die_at in (point, next(passed)):
            out.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    timeout = timedelta(seconds=request.get("timeout", 15))
    with Ledger.open(request["clone"], request["agent"], timeout=timeout) as ledger:
        sys.addaudithook(watch)
        for name, *arguments in request["steps"]:
            try:
                named = {k: v for one in arguments if isinstance(one, dict) for k, v in one.items()}
                given = [one for one in arguments if not isinstance(one, dict)]
                result = to_json(getattr(ledger, name)(*given, **named))
            except CoordledgerError as fault:
                result = {"code": fault.code, "message": fault.message}
            except Exception as fault:  # noqa: BLE001 - what users would call a traceback
                result = {"code": "traceback", "message": repr(fault)}
            out.write(json.dumps({"said": result}) + "\n")


def _kind(what: object) -> str:
    """What a path is, whatever its numbers: two runs name the same points."""
    name = os.fsdecode(what) if isinstance(what, str | bytes) else str(what)
    name = re.sub(r".*/objects/../(tmp_obj_)?[0-9a-f]+", "object", name)
    name = re.sub(r".*/objects/..$", "fan", name)
    name = re.sub(r".*/intents/[0-9a-f]{32}", "intents/OP", name)
    name = re.sub(r".*/\.git/", "", name)
    name = re.sub(r"/.*/coordledger-[^/]*", "push", name)
    name = re.sub(r"^/.*/[a-z0-9_]{8}$", "scratch", name)
    return re.sub(r"^\d+$", "opened", name)


if __name__ == "__main__":
    main()
