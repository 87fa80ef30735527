"""Section 8: where things stand in the tree, and how it is read."""

import hashlib

import pytest
from support.memory_ledger import (
    MemoryLedger,
    files_of,
    refused,
    state_of,
)

from coordledger.format import canonical
from coordledger.format.records import apply
from coordledger.format.state import page_path


class TestPlaces:
    def test_a_task_stands_on_the_page_that_its_hash_names(self):
        fleet = MemoryLedger("bob")
        names = [f"t{number}" for number in range(9)] + ["~", "A#1/2:3"]
        fleet.put("bob", "claim", tasks=sorted(names))
        for name in names:
            digest = hashlib.sha256(name.encode()).digest()
            path = f"tasks/{digest[0] % 64:02x}/{digest[1] % 64:02x}.jsonl"
            lines = fleet.state.tree.get(path).splitlines()
            assert name in [canonical.decode(line)["task"] for line in lines]
        assert sorted(task["task"] for task in fleet.state.tasks()) == sorted(names)

    def test_tasks_on_one_page_are_sorted_by_their_bytes(self):
        fleet = MemoryLedger("bob")
        wanted = page_path("t")
        found = (f"{letter}{n}" for n in range(90_000) for letter in "Zat")
        same = [name for name in found if page_path(name) == wanted][:6]
        assert len(same) == 6
        for name in [same[3], same[0], same[5]]:
            fleet.put("bob", "submit", task=name)
        fleet.put("bob", "claim", tasks=sorted({same[0], same[1], same[2], same[4]}))
        lines = fleet.state.tree.get(wanted).splitlines()
        assert [canonical.decode(line)["task"] for line in lines] == sorted(same)
        assert all(fleet.state.task(name)["task"] == name for name in same)

    def test_a_line_is_not_taken_for_that_of_a_task_that_its_meta_names(self):
        """`meta` may have the same members as a line, side by side."""
        fleet = MemoryLedger("bob")
        first, second, third = names = ("t929", "t4893", "t5354")
        assert {page_path(name) for name in names} == {page_path("t")}
        for name, other in ((first, second), (second, first)):
            posing = {"submit_seq": "1", "task": other, "title": "x"}
            fleet.put("bob", "submit", task=name, meta=posing)
            assert fleet.state.task(other) is None or other == first
        assert fleet.refusal("bob", "complete", task=third, epoch=1) == "unknown-task"
        fleet.put("bob", "claim", tasks=[second])
        fleet.put("bob", "claim", tasks=[first])
        assert [fleet.state.task(name)["task"] for name in (first, second)] == [first, second]
        assert [task["status"] for task in fleet.state.tasks()] == ["claimed", "claimed"]


def test_the_state_is_never_changed_by_a_record_that_is_refused():
    fleet = MemoryLedger("bob", "dave")
    fleet.put("bob", "claim", tasks=["t"])
    before = files_of(fleet.state)
    assert fleet.refusal("dave", "claim", tasks=["a", "t"]) == "held"
    assert files_of(fleet.state) == before


class TestPages:
    """A page of tasks has at most 131,072 bytes."""

    def page(self, size):
        """A state whose page for `t` has `size` bytes, `t` not among them; and its fleet."""
        fleet = MemoryLedger("bob")
        fleet.put("bob", "submit", task="t", meta={"a": "x"})
        line = fleet.state.tree.get(page_path("t"))
        blank = fleet.state.task("t")
        whole, at = [], 0
        while at < size:
            task = blank | {"task": f"!{len(whole):06}", "meta": {"a": ""}}
            bare = len(canonical.encode(task)) + 1
            rest = size - at
            take = rest if rest < 5000 else 2500
            task["meta"] = {"a": "x" * (take - bare)}
            whole.append(canonical.encode(task) + b"\n")
            at += len(whole[-1])
        assert at == size
        return fleet.at(2), files_of(fleet.state), b"".join(whole), line

    @pytest.mark.parametrize(("kind", "over"), [("submit", 0), ("submit", 1), ("claim", 1)])
    def test_a_record_that_adds_a_line_has_to_fit(self, kind, over):
        fleet, files, _, line = self.page(5000)
        record = fleet.record("bob", "submit", task="t", meta={"a": "x"})
        if kind == "claim":
            record = fleet.record("bob", "claim", tasks=["t"])
            fleet.put("bob", "claim", tasks=["t"])
            line = fleet.state.tree.get(page_path("t"))
        _, _, page, _ = self.page(131_072 - len(line) + over)
        full = state_of(files | {page_path("t"): page})
        assert refused(apply, full, record, 2) == ("page-full" if over else "")

    def test_a_record_that_only_changes_lines_need_not(self):
        fleet, files, _, line = self.page(5000)
        fleet.put("bob", "submit", task="t", meta={"a": "x"})
        claim = fleet.record("bob", "claim", tasks=["t"])
        _, _, page, _ = self.page(131_072 - len(line))
        full = state_of(files | {page_path("t"): page + line})
        changed = apply(full, claim, 3)[page_path("t")]
        assert len(changed) > 131_072
