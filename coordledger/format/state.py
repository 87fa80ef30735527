"""The state: what a ledger says at one commit, read from its tree (docs/format.md, section 8).

Rules: this is a view, and the only place that knows where in the tree a thing stands. It
gives values and changed files; no rule of a kind of record is here (`rules`), no clock,
no configuration, no signature. Times are milliseconds.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import canonical, timestamps
from coordledger.format.names import is_below, name_above
from coordledger.hashes import digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from coordledger.format.records import Record
    from coordledger.git.tree import Tree

    Changes = dict[str, bytes | None]  # path -> new content, None removes
    Keys = list[tuple[str, Record]]  # agent, the key's entry
    Line = tuple[int, int, Record]  # where on its page it begins and ends, and what it says

# A record writes each file that it changes anew, however small it is itself.
PAGE_BYTES = 131_072
INBOX_BYTES = 524_288
RESERVED_BYTES = 65_536  # of an inbox, for what is urgent
RESERVATIONS = "paths.jsonl"


def agent_path(agent: str) -> str:
    return f"agents/{agent}.json"


def inbox_path(agent: str) -> str:
    return f"inbox/{agent}.jsonl"


def channel_path(channel: str) -> str:
    return f"channels/{channel}.jsonl"


def page_path(task: str) -> str:
    """The file in which a task's line stands."""
    a, b, *_ = digest("sha256", task.encode("ascii"))
    return f"tasks/{a & 63:02x}/{b & 63:02x}.jsonl"


def fact_path(key: str) -> str:
    """The file in which a fact's line stands."""
    return f"facts/{digest('sha256', key.encode('ascii'))[0] & 63:02x}.jsonl"


def fact_mark(key: str) -> bytes:
    """What only the line of this fact has in it: in a text of it quotation marks are escaped."""
    return b',"fact":%s,"rev":' % canonical.encode(key)


def fact_ended(line: bytes, over: str) -> bool:
    """Whether a fact's line has an end that is not after `over`: times sort as their texts do."""
    until = line.partition(b',"until":"')[2][:24]
    return bool(until) and until <= over.encode("ascii")


def line_of(value: Record) -> bytes:
    return canonical.encode(value) + b"\n"


def value_of(line: bytes) -> Record:
    value: Record = canonical.read(line)
    return value


def lines_in(content: bytes | None) -> list[bytes]:
    """The lines of a file, each with its end; none if there is no file."""
    return content.splitlines(keepends=True) if content else []


class State:
    """The ledger as it stands at one commit, read from its tree as it is asked for.

    The lines are given as they stand in the file, as values: no caller changes them.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._files: dict[str, Record | None] = {}
        self._tasks = _TaskPages(tree)
        self._reservations: dict[str, Record] | None = None

    def _file(self, path: str) -> Record | None:
        if path not in self._files:
            self._files[path] = self.tree.value(path, value_of)
        return self._files[path]

    # -- the ledger and its agents

    @property
    def ledger(self) -> Record:
        return self._file("ledger.json") or {}

    def policy(self, key: str) -> int:
        return int(self.ledger["policy"][key])

    @property
    def requires_ssh(self) -> bool:
        """Whether only SSH keys sign what comes next (`require_alg`)."""
        return self.policy("require_alg") == 1

    @property
    def skew(self) -> int:
        """`max_skew` in milliseconds."""
        return 1000 * self.policy("max_skew")

    def agent(self, name: str) -> Record | None:
        return self._file(agent_path(name))

    def has_active_key(self, name: str) -> bool:
        """Whether somebody with this name can sign what comes next."""
        entry = self.agent(name)
        return entry is not None and any(key["until"] is None for key in entry["keys"])

    def agents(self) -> list[str]:
        return [name.removesuffix(".json") for name in self.tree.names("agents")]

    def key(self, agent: str, number: int, seq: int) -> Record:
        """The entry of the key with which `agent` may sign the record at `seq` (rule 2).

        Raises `RuleBroken`: unknown-key.
        """
        key = self._key(agent, number)
        if key and key["from"] <= seq and (key["until"] is None or seq <= key["until"]):
            return key
        raise RuleBroken("unknown-key", agent=agent, key=number)

    def _key(self, agent: str, number: int) -> Record | None:
        entry = self.agent(agent)
        keys: list[Record] = entry["keys"] if entry else []
        return next((key for key in keys if key["id"] == number), None)

    def has_key(self, agent: str, number: int) -> bool:
        """Whether the agent has, or had, a key of this number."""
        return self._key(agent, number) is not None

    def keys_above(self, agent: str, key: Record) -> Keys:
        """The keys that this entry stands under, the nearest first, each with its agent."""
        above: Keys = []
        while key["under"] is not None:
            agent = name_above(agent)
            found = self._key(agent, key["under"])
            if found is None:
                raise ValueError("a key stands under none")  # the state is none of a ledger
            key = found
            above.append((agent, key))
        return above

    def delegates(self, above: str) -> list[str]:
        """All names below this one, each after the one above it."""
        return sorted(name for name in self.agents() if is_below(name, above))

    def is_admin(self, name: str) -> bool:
        entry = self.agent(name)
        if entry is None:
            return False
        return bool(name == self.ledger["owner"] or entry["role"] == "admin")

    # -- tasks

    def task(self, name: str) -> Record | None:
        return self._tasks.find(name)

    def tasks(self) -> Iterator[Record]:
        """All tasks, page by page."""
        for page in self._pages():
            yield from map(value_of, lines_in(self.tree.get(page)))

    def tasks_of(self, member: str, agent: str) -> Iterator[Record]:
        """The tasks in which `member` (agent, by) is this agent or a delegate of its."""
        mark = line_of({member: agent})[1:-3]  # as the names of all delegates begin
        for page in self._pages():
            for task in self._marked(page, mark):
                if task[member] == agent or is_below(task[member], agent):
                    yield task

    def parent_of(self, task: Record) -> str | None:
        """What the task is a part of. A parent that disappeared, and came again after this task,
        is another task: so no two are parts of each other.
        """
        parent: str | None = task["parent"]
        other = None if parent is None else self.task(parent)
        return None if other and other["first_seq"] >= task["first_seq"] else parent

    def tasks_named(self, prefix: str) -> Iterator[Record]:
        """The tasks whose ids begin so."""
        mark = line_of({"task": prefix})[1:-3]
        for page in self._pages():
            yield from (t for t in self._marked(page, mark) if t["task"].startswith(prefix))

    def parts_of(self, parent: str) -> Iterator[Record]:
        """The tasks that are parts of this one."""
        mark = line_of({"parent": parent})[1:-2]
        for page in self._pages():
            yield from (task for task in self._marked(page, mark) if self.parent_of(task) == parent)

    def _marked(self, page: str, *marks: bytes) -> list[Record]:
        """The tasks on a page with one of the `marks`, each a member's canonical form or the
        beginning of it: a member of `meta` may look so, but no text, whose quotation marks are
        escaped. Other lines are not parsed.
        """
        content = self.tree.get(page) or b""
        if not any(mark in content for mark in marks):
            return []
        return [value_of(line) for line in lines_in(content) if any(mark in line for mark in marks)]

    def _pages(self) -> Iterator[str]:
        for folder in self.tree.names("tasks"):
            for page in self.tree.names(f"tasks/{folder}"):
                yield f"tasks/{folder}/{page}"

    def task_folders(self) -> dict[str, str]:
        """The folders of pages of tasks: name -> id."""
        return self.tree.ids_in("tasks")

    def task_pages(self, folder: str) -> dict[str, str]:
        """The pages of tasks in such a folder: path -> id of the page."""
        inside = self.tree.ids_in(f"tasks/{folder}")
        return {f"tasks/{folder}/{name}": oid for name, oid in inside.items()}

    def unread_pages(self, folder: str = "tasks") -> list[str]:
        """The ids of the pages that `tasks`, or `facts`, would have to read; or of one page."""
        return self.tree.missing(folder)

    def lines_on(self, page: str) -> list[bytes]:
        """The lines of a page of tasks, given by its path: sorted by task."""
        return lines_in(self.tree.get(page))

    def busy_tasks(self) -> Iterator[Record]:
        """The tasks that somebody has claimed or is offered."""
        for page in self._pages():
            found = self._marked(page, b'"status":"claimed"', b'"offer":{')
            yield from (t for t in found if t["status"] == "claimed" or t["offer"])

    def with_tasks(self, tasks: list[Record], *, grows: bool = False) -> Changes:
        """The pages in which these lines replace those of the same tasks, or are new.

        A new line has to have room in its page, and with `grows` any has to. Raises `RuleBroken`:
        page-full.
        """
        return self._tasks.changed(tasks, grows=grows)

    def without_task(self, name: str) -> Changes:
        """The page without the line of a task that is there."""
        return self._tasks.without(name)

    def claimable_at(self, task: Record) -> int:
        """The moment from which a claimed task can be taken over."""
        return min(timestamps.parse(task["until"]) + self.skew, timestamps.LATEST)

    def waits_for(self, task: Record | None) -> list[str]:
        """The ids in the task's `after` that are neither done nor withdrawn.

        One that is absent was withdrawn, and one that came after this task is another task.
        """
        if not task:
            return []
        others = ((name, self.task(name)) for name in task["after"])
        return [
            name
            for name, other in others
            if other
            and other["first_seq"] < task["first_seq"]
            and other["status"] not in ("done", "withdrawn")
        ]

    def reservations(self) -> list[Record]:
        """The paths that claims reserve, a line for each task that has any, by task."""
        return list(self._reserved.values())

    def paths_of(self, task: str) -> list[str]:
        """The paths that the newest claim on a task has reserved."""
        line = self._reserved.get(task)
        return line["paths"] if line else []

    @property
    def _reserved(self) -> dict[str, Record]:
        if self._reservations is None:
            lines = map(value_of, lines_in(self.tree.get(RESERVATIONS)))
            self._reservations = {line["task"]: line for line in lines}
        return self._reservations

    # -- messages

    def inbox(self, agent: str) -> list[Record]:
        """The messages to `agent` that are not acknowledged, by seq."""
        return [value_of(line) for line in lines_in(self.tree.get(inbox_path(agent)))]

    def inboxes(self) -> set[str]:
        """The agents that have messages."""
        return {name.removesuffix(".jsonl") for name in self.tree.names("inbox")}

    def channel(self, name: str) -> list[Record]:
        """The messages that the channel keeps, by seq."""
        return [value_of(line) for line in lines_in(self.tree.get(channel_path(name)))]

    def channels(self) -> list[str]:
        return [name.removesuffix(".jsonl") for name in self.tree.names("channels")]

    # -- facts

    def fact(self, key: str) -> Record | None:
        mark = fact_mark(key)
        lines = (line for line in lines_in(self.tree.get(fact_path(key))) if mark in line)
        return next(map(value_of, lines), None)

    def facts(self) -> Iterator[Record]:
        """All facts, page by page."""
        for page in self.tree.names("facts"):
            yield from map(value_of, lines_in(self.tree.get(f"facts/{page}")))


class _TaskPages:
    """The pages of tasks: sorted lines, of which those of the tasks that are asked for are read.

    A claim of 16 tasks that each wait for 16 looks 272 times, maybe all into one page.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._paths: dict[str, str] = {}  # by task
        self._lines: dict[str, Line | None] = {}  # by task
        self._names: dict[bytes, str] = {}  # by line

    def _path_of(self, name: str) -> str:
        if name not in self._paths:
            self._paths[name] = page_path(name)
        return self._paths[name]

    def _content(self, name: str) -> bytes:
        """Of the page on which the task's line would be."""
        return self._tree.get(self._path_of(name)) or b""

    def _line_of(self, name: str) -> Line | None:
        if name not in self._lines:
            self._lines[name] = _find_line(self._content(name), name)
        return self._lines[name]

    def find(self, name: str) -> Record | None:
        line = self._line_of(name)
        return line[2] if line else None

    def without(self, name: str) -> Changes:
        line = self._line_of(name)
        if line is None:
            raise KeyError(name)
        start, end, _ = line
        content = self._content(name)
        return {self._path_of(name): content[:start] + content[end:] or None}

    def changed(self, tasks: list[Record], *, grows: bool) -> Changes:
        pages: dict[str, list[tuple[int, int, str, bytes]]] = {}
        grown = {}  # the pages that need room: page -> task
        for task in tasks:
            name = task["task"]
            path, line = self._path_of(name), self._line_of(name)
            start = line[0] if line else self._place_of(name)
            end = line[1] if line else start
            pages.setdefault(path, []).append((start, end, name, line_of(task)))
            if grows or line is None:
                grown[path] = name
        contents = {path: _spliced(self._tree.get(path) or b"", new) for path, new in pages.items()}
        for path, name in grown.items():
            if len(contents[path]) > PAGE_BYTES:
                raise RuleBroken("page-full", task=name)
        return {**contents}

    def _place_of(self, name: str) -> int:
        """Where on its page the line of a task that has none would begin."""
        lines = lines_in(self._content(name))
        low, high = 0, len(lines)
        while low < high:
            middle = (low + high) // 2
            if self._name_of(lines[middle]) < name:
                low = middle + 1
            else:
                high = middle
        return sum(map(len, lines[:low]))

    def _name_of(self, line: bytes) -> str:
        """The id of the task that a line is about."""
        if line not in self._names:
            self._names[line] = str(value_of(line)["task"])
        return self._names[line]


def _find_line(content: bytes, name: str) -> Line | None:
    """The line of a task. Its member `task` is looked for as it stands between its neighbours: in
    a text of the line quotation marks are escaped, but `meta` may have such members, too.
    """
    mark = b',"task":%s,"title":' % canonical.encode(name)
    at = content.find(mark)
    while at >= 0:
        start, end = content.rfind(b"\n", 0, at) + 1, content.find(b"\n", at) + 1
        task = value_of(content[start:end])
        if task["task"] == name:
            return start, end, task
        at = content.find(mark, end)
    return None


def _spliced(content: bytes, changes: list[tuple[int, int, str, bytes]]) -> bytes:
    """A page after these changes: from where to where it is another line, of which task."""
    parts, at = [], 0
    for start, end, _, line in sorted(changes):
        parts += [content[at:start], line]
        at = end
    return b"".join([*parts, content[at:]])
