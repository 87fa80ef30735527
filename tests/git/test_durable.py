"""Objects that outlive a power cut: on the disk before they have names."""

from __future__ import annotations

import posix
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger.git import durable
from coordledger.git.tree import object_id

if TYPE_CHECKING:
    import pytest


def test_objects_are_on_the_disk_before_they_have_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []
    sync, rename = posix.fsync, posix.rename

    def synced(fd: int) -> None:
        seen.append(("sync", str(Path(f"/proc/self/fd/{fd}").readlink())))
        sync(fd)

    def renamed(old: str, new: str) -> None:
        seen.append((old, new))
        rename(old, new)

    monkeypatch.setattr(posix, "fsync", synced)
    monkeypatch.setattr(posix, "rename", renamed)
    tmp_path.chmod(0o2770)
    contents = [b"%d" % n * 5000 for n in range(3)]
    objects = {object_id("blob", content, "sha1"): ("blob", content) for content in contents}
    durable.write(str(tmp_path), objects)
    for oid in objects:
        path = f"{tmp_path}/{oid[:2]}/{oid[2:]}"
        [at] = [n for n, (_, new) in enumerate(seen) if new == path]
        before, after = seen[:at], seen[at:]
        assert ("sync", seen[at][0]) in before
        assert ("sync", str(Path(path).parent)) in after
        assert ("sync", str(tmp_path)) in after
        # As git shares a repository among the users of a group.
        assert Path(path).stat().st_mode & 0o777 == 0o440
        assert Path(path).parent.stat().st_mode & 0o7777 == 0o2770
    seen.clear()
    durable.write(str(tmp_path), objects)  # there already, maybe by somebody who did not sync
    assert {what for what, _ in seen} == {"sync"}
    assert len(seen) >= 2 * len(objects)
