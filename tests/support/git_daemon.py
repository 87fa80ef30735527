"""git daemons of one's own, on loopback ports, stopped by their process ids."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SECONDS = 15


@contextlib.contextmanager
def daemon(folder: Path, env: dict[str, str], *, writable: bool) -> Iterator[int]:
    """A `git daemon` for the repositories in `folder`; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    may = ["--enable=receive-pack"] if writable else []
    argv = ["git", "daemon", "--listen=127.0.0.1", f"--port={port}", "--export-all", "--reuseaddr"]
    limits = ["--max-connections=0", "--init-timeout=10", "--timeout=10"]
    process = subprocess.Popen(
        [*argv, *may, *limits, f"--base-path={folder}", str(folder)],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + _SECONDS
        while not _listens(port):
            assert process.poll() is None, "git daemon ended"
            assert time.monotonic() < end, "git daemon does not listen"
            time.sleep(0.02)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(_SECONDS)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
