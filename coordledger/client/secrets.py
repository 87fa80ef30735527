"""Where secrets are: agents' own ones, and a ledger's masters.

Rules of this file: the first place that has a secret decides, and none is ever looked for in
the repository's history. Form and permissions are judged by `keyfiles`; which secret fits which
key is found out by its fingerprint, in `format.signing`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger import keyfiles
from coordledger.errors import CoordledgerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordledger.client.config import Settings
    from coordledger.format.signing import Secret

_VARIABLE = "COORDINATION_SECRET"  # in the environment, or how its name begins


class SecretFinder:
    """Where an agent's secret may be; the first place that has one decides."""

    def __init__(self, settings: Settings, root: Path | None) -> None:
        """`root` is the git work tree's, if there is one."""
        self._environ, self._own = settings.environ, settings.agent
        self._config_dir, self._root = settings.config_dir, root

    def find(self, agent: str) -> tuple[str, list[Secret]]:
        """The place and the secrets there (none at all: an empty list).

        Raises `Failed`: secret-exposed, bad-secret.
        """
        names = [f"{_VARIABLE}_{agent.upper().replace('-', '_')}"]
        if agent == self._own:
            names.append(_VARIABLE)  # says whose it is no more than that it is ours
        for name in names:
            if self._environ.get(name):
                content = self._environ[name].encode("ascii", "replace")
                return name, keyfiles.parse(content, name)
        for path in self._files(agent):
            kept = keyfiles.read(str(path))
            if kept is not None:
                return str(path), kept
        return str(self.home(agent)), []

    def quietly(self, agent: str) -> Iterable[Secret]:
        """For checking others' records: what is unusable is no key, and no error."""
        try:
            return self.find(agent)[1]
        except CoordledgerError:
            return ()

    def home(self, agent: str) -> Path:
        """Where a new secret of `agent` is written: never into a work tree."""
        given = self._environ.get(f"{_VARIABLE}S_DIR")
        return Path(given or self._config_dir / "secrets", f"{agent}.secret")

    def _files(self, agent: str) -> Iterable[Path]:
        yield from [self.home(agent)] if self._environ.get(f"{_VARIABLE}S_DIR") else []
        if self._root:
            yield self._root / "secrets" / "coordination" / f"{agent}.secret"
        yield self._config_dir / "secrets" / f"{agent}.secret"


def masters(settings: Settings, ledger_id: str | None) -> list[Secret]:
    """The ledger's master if it is here: in a local bare repository, or in the user's files.

    Raises `Failed`: secret-exposed, bad-secret.
    """
    path = settings.remote.folder
    if path and os.access(f"{path}/coordledger/master", os.R_OK):
        return keyfiles.read(f"{path}/coordledger/master") or []
    if ledger_id:
        return keyfiles.read(str(settings.config_dir / "masters" / ledger_id)) or []
    return []
