"""The harnesses' own programs, as their makers publish them: one version of each, by its hash.

Rules: what is unpacked has the SHA-512 of this table, which is npm's own `integrity`; a folder
below the cache is whole or not there. A registry that cannot be reached is `Unavailable`, and so
is a machine for which nothing is published; everything else (a version that is gone, a hash that
differs) is a fault. Nothing is installed: no script of a package runs. It does not know how a
harness is started.

`python -m support.harness_binaries` (in `tests/`) fetches all of them and says what it has.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MACHINE = ("Linux", "x86_64")
TIMEOUT = 300
AGAIN = 600  # seconds after which a registry that could not be reached is asked again
# What npm calls the ends of a connection that is no connection to its registry.
UNREACHABLE = re.compile(
    "E(AI_AGAIN|CONNREFUSED|CONNRESET|HOSTUNREACH|NETUNREACH|NOTFOUND|PIPE|RR_SOCKET_TIMEOUT"
    "|TIMEDOUT|429|50[0-9])|FETCH_ERROR"
)


@dataclass(frozen=True, slots=True)
class Package:
    """One published version; `program` is its path in the package."""

    name: str
    version: str
    spec: str
    program: str
    integrity: str


PACKAGES = {
    package.name: package
    for package in (
        Package(
            "claude",
            "2.1.332",
            "@anthropic-ai/claude-code-linux-x64@2.1.332",
            "claude",
            "sha512-f4JWhzwYutJIHScC7/dYOPX6s28tt7ZADhsOi8zwOHq5fFPEuUeChh2NMfinSg0GrUckYxaeebC4h0DqiKzLcw==",
        ),
        Package(
            "codex",
            "0.171.0",
            "@openai/codex@0.171.0-linux-x64",
            "vendor/x86_64-unknown-linux-musl/bin/codex",
            "sha512-l66NZkQgdk2C3pbcfULDz42yEUB581MVA6I+Y43Wp4OIqEy73HCdmZ0GTjeAHY2ycuH4N00d9VsLrwT1jxshTw==",
        ),
        Package(
            "gemini",
            "0.61.0",
            "@google/gemini-cli@0.61.0",
            "bundle/gemini.js",
            "sha512-dbQ9A0qBtFJNi6XBkHvfZ6Azpn6PNgH/P8h2MZ67RLlX8hSAVjup39CRWqdRxZv7YXIuhrFaytr8y0jKnkoxnQ==",
        ),
        Package(
            "opencode",
            "1.18.33",
            "opencode-linux-x64@1.18.33",
            "bin/opencode",
            "sha512-q/t/3p2CTxOT9y2kvjesb/LZab2+1eqlhhWA02Be6mjTtmYtNBcBsrI5yDo4Fw7ZSPBW2oyMIGMNRqiKQjiAWw==",
        ),
    )
}


class UnavailableError(Exception):
    """It cannot be had here, for a reason that is nobody's fault."""


def cache(environ: Mapping[str, str]) -> Path:
    """Where packages are kept from one run to the next."""
    if given := environ.get("COORDLEDGER_HARNESSES"):
        return Path(given)
    base = (
        environ.get("XDG_CACHE_HOME")
        or Path(environ.get("HOME") or tempfile.gettempdir()) / ".cache"
    )
    return Path(base) / "coordledger-harnesses"


def fetch(package: Package, environ: Mapping[str, str]) -> Path:
    """The package's program. Raises UnavailableError; any other exception is a fault."""
    if (platform.system(), platform.machine()) != MACHINE:
        raise UnavailableError(f"no package is pinned for {platform.system()} {platform.machine()}")
    root = cache(environ)
    root.mkdir(parents=True, exist_ok=True)
    # Another hash in the table is another folder.
    digest = hashlib.sha256(package.integrity.encode()).hexdigest()[:12]
    folder = root / f"{package.name}-{package.version}-{digest}"
    with _locked(root / f"{package.name}.lock"):
        if not folder.exists():
            _leave_out_again(root / "unreachable")
            with tempfile.TemporaryDirectory(dir=root, prefix="incoming-") as scratch:
                tarball = _pack(package, Path(scratch), environ)
                _check(package, tarball)
                with tarfile.open(tarball) as archive:
                    archive.extractall(Path(scratch) / "unpacked", filter="tar")
                (Path(scratch) / "unpacked" / "package").rename(folder)
    return folder / package.program


def _pack(package: Package, folder: Path, environ: Mapping[str, str]) -> Path:
    """npm downloads the package, as it is published."""
    if not shutil.which("npm", path=environ.get("PATH")):
        missing = "npm is not installed, which fetches the harnesses"
        raise (
            FileNotFoundError(missing) if environ.get("CI") == "true" else UnavailableError(missing)
        )
    ran = subprocess.run(
        ["npm", "pack", "--silent", "--no-update-notifier", "--loglevel=error", package.spec],
        cwd=folder,
        env={"npm_config_fetch_retries": "1"} | dict(environ),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if ran.returncode:
        found = re.search(r"npm (?:error|ERR!) code (\w+)", ran.stderr)
        code = found[1] if found else f"exit code {ran.returncode}"
        if UNREACHABLE.fullmatch(code):
            (folder.parent / "unreachable").write_text(code)
            raise UnavailableError(f"npm's registry cannot be reached: {code}")
        raise RuntimeError(f"npm pack {package.spec}: {code}\n{ran.stderr}")
    return next(folder.glob("*.tgz"))


def _leave_out_again(memory: Path) -> None:
    """npm tries for a minute: it need not for each package in each process."""
    with contextlib.suppress(FileNotFoundError):
        if time.time() - memory.stat().st_mtime < AGAIN:
            raise UnavailableError(f"npm's registry cannot be reached: {memory.read_text()}")


def _check(package: Package, tarball: Path) -> None:
    with tarball.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    got = "sha512-" + base64.b64encode(digest).decode()
    if got != package.integrity:
        raise RuntimeError(f"{package.spec} is {got}, not {package.integrity}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process fetches, the others wait for it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    for package in PACKAGES.values():
        try:
            print(f"{package.name} {package.version}: {fetch(package, os.environ)}")
        except UnavailableError as reason:
            print(f"LEFT OUT: {package.name} {package.version}: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
