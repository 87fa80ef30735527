"""The MACs of a coordination database: which of them its agents' secrets confirm.

Rules: `valid` is only what the newest form confirms, HMAC-SHA256 over the canonical JSON of the
fields, in base64. Older versions joined the fields with `|`, so that two rows can have one MAC, or
wrote digits: such a MAC is named in a note, and says nothing. Whatever is valid speaks of these
fields alone, and of who had the secret: not of a status, a result or a time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
from typing import TYPE_CHECKING

from coordledger.client.importing.sources import read
from coordledger.errors import CoordledgerError, error
from coordledger.format.rules.imports import BAD, MISSING, UNKNOWN, VALID

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_VARIABLE = "COORDINATION_SECRET_"
_MOST = 65_536  # bytes of a file with a secret


class Secrets:
    """The old secrets by agent: of the environment, and of the files AGENT.secret in a folder."""

    def __init__(self, environ: Mapping[str, str], folder: Path | None) -> None:
        """Raises `Failed`: bad-import, if there is no such folder."""
        self._environ, self._folder = environ, folder
        self._known: dict[str, bytes | None] = {}
        if folder is not None and not folder.is_dir():
            raise error("bad-import", path=folder, why="it is no folder")

    def of(self, agent: str) -> bytes | None:
        """An agent's secret, if it is here."""
        if agent not in self._known:
            self._known[agent] = self._find(agent)
        return self._known[agent]

    def _find(self, agent: str) -> bytes | None:
        if not agent or agent.startswith(".") or not agent.isprintable() or "/" in agent:
            return None
        if self._folder is not None:
            for path in (self._folder / f"{agent}.secret", self._folder / agent):
                if os.path.lexists(path):
                    try:
                        return read(path, _MOST).strip() or None
                    except CoordledgerError:
                        return None
        name = _VARIABLE + agent.upper().replace("-", "_").replace(".", "__")
        given = self._environ.get(name, "").strip()
        return given.encode("utf-8", "surrogateescape") or None


def verdict(secret: bytes | None, tag: str | None, fields: list[object], notes: list[str]) -> str:
    """What is to be said of the `tag` of a row with these fields."""
    if tag is None:
        return MISSING
    if secret is None:
        return UNKNOWN
    said = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")
    right = hmac.digest(secret, said, "sha256")
    given = tag.encode("utf-8", "replace")
    if hmac.compare_digest(given, base64.b64encode(right)):
        return VALID
    joined = "|".join(map(str, fields)).encode("utf-8", "replace")
    older = {
        "the fields joined by |, base64": base64.b64encode(hmac.digest(secret, joined, "sha256")),
        "the fields joined by |, hexadecimal": hmac.new(secret, joined, hashlib.sha256)
        .hexdigest()
        .encode(),
        "JSON, hexadecimal": binascii.hexlify(right),
    }
    for form, expected in older.items():
        if hmac.compare_digest(given, expected):
            notes.append(f"its MAC is right in an older form ({form}), which is not taken as valid")
            return UNKNOWN
    return BAD
