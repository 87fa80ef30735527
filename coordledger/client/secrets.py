"""Where secrets are: agents' own ones, and a ledger's masters.

Rules of this file:
- The first place that has a usable secret decides: the environment, `$COORDINATION_SECRETS_DIR`,
  the user's configuration directory, last the work tree.
- One file for each agent and ledger, in a folder that is named by the ledger's id, so that what
  is handed out is one ledger's. A file beside these folders, as older versions wrote it, is looked
  at after it and counts too.
- A file that is not safe or holds no secret is passed over with a warning; it is an error only
  where nothing else has any. What the repository tracks came with the code: it is never opened.
- None is ever looked for in the repository's history.

Form and permissions are judged by `keyfiles`; which secret fits which key is found out by its
fingerprint, in `format.signing`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger import files, keyfiles
from coordledger.errors import CoordledgerError, Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from coordledger.client.config import Settings
    from coordledger.format.signing import Secret
    from coordledger.git.repository import Repository

_VARIABLE = "COORDINATION_SECRET"  # in the environment, or how its name begins


class SecretFinder:
    """Where an agent's secrets for a ledger may be; the first place that has any decides."""

    def __init__(
        self, settings: Settings, repository: Repository | None, warn: Callable[[str], None]
    ) -> None:
        """`repository` is the one around, if there is one; `warn` hears of what is passed over."""
        self._environ, self._own = settings.environ, settings.base_agent
        self._config_dir, self._repository = settings.config_dir, repository
        self._warn = warn
        self.trusted = settings.environ.get(keyfiles.TRUSTED) or None

    def find(self, agent: str, ledger_id: str) -> tuple[str, list[Secret]]:
        """The place and the secrets there; without any the place where one would be written.

        Raises `Failed`: secret-exposed, bad-secret.
        """
        return self._search(agent, ledger_id, self._warn)

    def quietly(self, agent: str, ledger_id: str | None) -> Iterable[Secret]:
        """For checking others' records: what is unusable is no key, and no error."""
        try:
            return self._search(agent, ledger_id or "", _ignore)[1]
        except CoordledgerError:
            return ()

    def _search(
        self, agent: str, ledger_id: str, warn: Callable[[str], None]
    ) -> tuple[str, list[Secret]]:
        names = [f"{_VARIABLE}_{agent.upper().replace('-', '_').replace('.', '__')}"]
        if agent == self._own:
            names.append(_VARIABLE)  # says whose it is no more than that it is ours
        for name in names:
            if self._environ.get(name):
                content = self._environ[name].encode("ascii", "replace")
                return name, keyfiles.parse(content, name)
        faults: list[Failed] = []
        for place in self._places(agent, ledger_id):
            found = [
                (str(path), secret) for path in place for secret in self._read(path, faults, warn)
            ]
            if found:
                for fault in faults:
                    warn(f"{fault.message}: passed over")
                return found[0][0], [secret for _, secret in found]
        if faults:
            raise faults[0]
        return str(self.home(agent, ledger_id)), []

    def home(self, agent: str, ledger_id: str) -> Path:
        """Where a new secret of `agent` is written, for this ledger alone."""
        return (self._given or self._config_dir / "secrets") / ledger_id / f"{agent}.secret"

    def keep(self, agent: str, ledger_id: str, secret: Secret) -> Path:
        """Put a new secret into its file; that file.

        Raises `Failed`: secret-exposed, bad-secret.
        """
        path = self.home(agent, ledger_id)
        keyfiles.append(str(path), secret, folders=2)
        return path

    def forget(self, agent: str, ledger_id: str) -> None:
        """Remove what `keep` has written."""
        files.remove(str(self.home(agent, ledger_id)))

    @property
    def _given(self) -> Path | None:
        folder = self._environ.get(f"{_VARIABLE}S_DIR")
        return Path(folder) if folder else None

    def _places(self, agent: str, ledger_id: str) -> Iterable[list[Path]]:
        name = f"{agent}.secret"
        for folder in (self._given, self._config_dir / "secrets"):
            if folder:
                of_this_ledger = [folder / ledger_id / name] if ledger_id else []
                yield [*of_this_ledger, folder / name]
        if self._repository and self._repository.root:
            yield [self._repository.root / "secrets" / "coordination" / name]

    def _read(self, path: Path, faults: list[Failed], warn: Callable[[str], None]) -> list[Secret]:
        """The secrets in a file. One that cannot be used has none, and adds to the `faults`."""
        if not os.path.lexists(path):
            return []
        if self._repository and self._repository.tracks(path):
            warn(f"{path} is part of the repository, and no secret: passed over")
            return []
        try:
            return keyfiles.read(str(path), self.trusted) or []
        except Failed as fault:
            faults.append(fault)
            return []


def _ignore(text: str) -> None:
    pass


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
