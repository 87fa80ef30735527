"""A hook, and its death: argv is PACKAGE, HOOK, POINT, LOG, SECONDS, and what the hook gets.

It kills itself with SIGKILL just before the POINT-th thing that it does to the world (a file
or folder opened, made, linked, renamed, a lock taken, a process started), counted from the moment
it stands at the lock; POINT 0 lives. What it came by is appended to LOG.
"""

import itertools
import os
import signal
import sys

package, hook, point, log, seconds = sys.argv[1:6]
sys.path.insert(0, package)

from coordledger.server import pre_receive, proc_receive, sequencer  # noqa: E402

if seconds:
    sequencer.TURN_SECONDS = int(seconds)
KINDS = ("open", "os.link", "os.rename", "os.mkdir", "os.posix_spawn", "fcntl.flock")
fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
passed = itertools.count(1)  # threads come by at the same time
stands: list[bool] = []  # at the lock


def watch(event: str, arguments: tuple[object, ...]) -> None:
    if event in KINDS and (stands or str(arguments[0]).endswith(".lock")):
        stands.append(True)
        number = next(passed)
        os.write(fd, f"{event} {arguments[0]}\n".encode())
        if number == int(point):
            os.kill(os.getpid(), signal.SIGKILL)


del sys.argv[2:6]
sys.addaudithook(watch)
{"pre-receive": pre_receive, "proc-receive": proc_receive}[hook].start()
