"""What is connected here, and what keeps a harness from running the hooks that are in its settings.

Rules of this file: nothing is changed. A harness that skips hooks says nothing of it, so that is
looked for in its own settings, a user's and a project's; what cannot be read there is no finding.
"""

from __future__ import annotations

import json
import shutil
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from coordledger.errors import CoordledgerError
from coordledger.integrations.connecting import files, plan, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coordledger.integrations.connecting.plan import Scope
    from coordledger.integrations.connecting.table import Harness

_MANAGED = "/etc/claude-code/managed-settings.json"


class Finding(NamedTuple):
    """Of one harness: whether it is well, what was found, and what to do."""

    name: str
    is_good: bool
    found: str
    do: str = ""


class _Places(NamedTuple):
    """The folders to look in: the one of the harness in the user's home, the project's top."""

    own: Path
    project: Path | None

    def values(self, name: str, load: Callable[[str], Any] = json.loads) -> Iterator[Any]:
        """The settings of a user and of a project, as far as they are there."""
        folders = [self.own] if self.project is None else [self.own, self.project]
        for folder in folders:
            value = _loaded(folder / name, load)
            if isinstance(value, dict):
                yield value


def _loaded(path: Path, load: Callable[[str], Any]) -> Any:
    try:
        if path.stat().st_size > files.LARGEST:
            return None
        return load(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _at(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def look(scope: Scope, harness: Harness) -> list[Finding]:
    """What there is to say of a harness that is connected; nothing where it is not."""
    if not plan.is_connected(scope, harness):
        return []
    found = [_settled(scope, harness)]
    if not shutil.which(scope.program, path=scope.environ.get("PATH", "")):
        what = f"{scope.program} is not on PATH: its hooks fail to start"
        found.append(_bad(harness, what, "install it with: uv tool install coordledger, or pipx"))
    own = scope.environ.get(harness.variable, "") if harness.variable else ""
    home = Path(own or Path(scope.environ.get("HOME", "/"), harness.folder))
    project = None if scope.user else scope.top / harness.folder
    everywhere = scope._replace(top=Path(scope.environ.get("HOME", "")), user=True)
    is_apart = not scope.user and everywhere.top.is_dir() and everywhere.top != scope.top
    if is_apart and plan.is_connected(everywhere, harness):
        what = "connected for all projects of the user, too: its hooks run twice"
        found.append(_bad(harness, what, f"coordledger setup {harness.name} --user --remove"))
    if not find_spec("mcp") and plan.has_server(scope, harness):
        what = "its MCP server needs what is not installed: coordledger[mcp]"
        found.append(_bad(harness, what, "install the extra, or: coordledger setup --no-mcp"))
    skips = _SKIPS.get(harness.name)
    if skips:
        found += skips(harness, scope, _Places(home, project))
    return found


def _bad(harness: Harness, found: str, do: str) -> Finding:
    return Finding(harness.name, is_good=False, found=found, do=do)


def _settled(scope: Scope, harness: Harness) -> Finding:
    """Whether its settings are those of this version."""
    where = harness.user if scope.user else harness.project
    try:
        steps = plan.steps_of(scope, harness, connect=True, mcp=None)
    except CoordledgerError as fault:
        return _bad(harness, fault.message, fault.hint)
    differs = [f"{step.change.file.shown}: {why}" for step in steps for why in step.differs]
    user = " --user" if scope.user else ""
    if differs:
        do = f"coordledger setup {harness.name}{user}"
        return _bad(harness, f"not as this version has it: {'; '.join(differs[:3])}", do)
    return Finding(harness.name, is_good=True, found=f"connected by {where}")


def _claude(harness: Harness, scope: Scope, places: _Places) -> Iterator[Finding]:
    for name in ("settings.json", "settings.local.json"):
        if any(_at(value, "disableAllHooks") is True for value in places.values(name)):
            yield _bad(harness, f"{name} has disableAllHooks: no hook runs", "take it out")
    for value in places.values("settings.json"):
        enabled = _at(value, "enabledPlugins")
        for name, is_on in enabled.items() if isinstance(enabled, dict) else ():
            if name.startswith(f"{table.PROGRAM}@") and is_on:
                what = f"the plugin {name} has the same hooks: each of them runs twice"
                yield _bad(harness, what, "coordledger setup claude --remove")
    managed = _loaded(Path(_MANAGED), json.loads)
    if _at(managed, "disableAllHooks") is True or _at(managed, "allowManagedHooksOnly") is True:
        yield _bad(harness, f"{_MANAGED} allows no hooks but its own", "ask who manages it")


def _codex(harness: Harness, scope: Scope, places: _Places) -> Iterator[Finding]:
    for value in places.values("config.toml", tomllib.loads):
        if _at(value, "features", "hooks") is False:
            yield _bad(harness, "config.toml switches hooks off (features.hooks)", "take it out")
    user = _loaded(places.own / "config.toml", tomllib.loads)
    if (
        places.project is not None
        and _at(user, "projects", str(scope.top), "trust_level") != "trusted"
    ):
        what = "Codex does not trust this project: it skips its hooks without a word"
        yield _bad(harness, what, f"run codex in {scope.top} once, and trust the folder")
        return
    settings = (places.project or places.own) / "hooks.json"
    states = _at(user, "hooks", "state")
    trusted = [
        key
        for key, state in (states.items() if isinstance(states, dict) else ())
        if key.startswith(f"{settings}:") and _at(state, "trusted_hash")
    ]
    if len(trusted) < len(harness.hooks):
        what = "its user has not trusted the hooks: Codex skips them without a word"
        yield _bad(harness, what, "run codex, then /hooks, and trust them")


def _gemini(harness: Harness, scope: Scope, places: _Places) -> Iterator[Finding]:
    for value in places.values("settings.json"):
        if _at(value, "hooksConfig", "enabled") is False:
            yield _bad(harness, "settings.json has hooksConfig.enabled: false", "take it out")
        disabled = _at(value, "hooksConfig", "disabled")
        if isinstance(disabled, list) and table.PROGRAM in disabled:
            what = "settings.json disables them (hooksConfig.disabled)"
            yield _bad(harness, what, f"run gemini, then /hooks enable {table.PROGRAM}")
    user = _loaded(places.own / "settings.json", json.loads)
    is_guarded = _at(user, "security", "folderTrust", "enabled") is not False
    if places.project is not None and is_guarded and not _gemini_trusts(scope.top, places.own):
        what = "Gemini CLI does not trust this folder: it skips its settings without a word"
        yield _bad(harness, what, f"run gemini in {scope.top} once, and trust the folder")


def _gemini_trusts(top: Path, own: Path) -> bool:
    """By its list of folders, of which a nearer one counts."""
    listed = _loaded(own / "trustedFolders.json", json.loads)
    rules: dict[Path, bool] = {}
    for path, said in listed.items() if isinstance(listed, dict) else ():
        folder = Path(path).parent if said == "TRUST_PARENT" else Path(path)
        rules[folder] = said != "DO_NOT_TRUST"
    return next((rules[folder] for folder in (top, *top.parents) if folder in rules), False)


_SKIPS: dict[str, Callable[[Harness, Scope, _Places], Iterator[Finding]]] = {
    "claude": _claude,
    "codex": _codex,
    "gemini": _gemini,
}
