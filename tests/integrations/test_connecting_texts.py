"""Texts that are changed and changed back: JSON, and blocks between marks; by properties."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from coordledger.integrations.connecting import contents, json_text, marked, table
from coordledger.integrations.connecting.json_text import Unreadable

CLAUDE = table.HARNESSES["claude"].settings("coordledger", user=False)
EVENTS = [entry.path[1] for entry in CLAUDE.entries]

# -- JSON as people and formatters write it

blank = st.text(alphabet=" \t\n\r", max_size=3)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
)  # fmt: skip
handlers = st.fixed_dictionaries(
    {"type": st.just("command"), "command": st.sampled_from(["lint.sh", "coordledgerx agent-hook"])}
)
groups = st.one_of(
    st.fixed_dictionaries({"hooks": st.lists(handlers, max_size=2)}),
    st.fixed_dictionaries(
        {"matcher": st.text(max_size=4), "hooks": st.lists(handlers, max_size=2)}
    ),
    scalars,
)
hooks = st.dictionaries(
    st.one_of(st.sampled_from(EVENTS), st.text(max_size=4).filter(lambda name: name not in EVENTS)),
    st.lists(groups, max_size=3),
    max_size=3,
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
documents = st.builds(
    lambda others, own, where: dict(
        sorted((others | own).items(), key=lambda pair: hash((where, pair[0])))
    ),
    st.dictionaries(
        st.text(max_size=6).filter(lambda key: key not in ("hooks", "mcpServers")),
        values,
        max_size=3,
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "hooks": hooks,
            "mcpServers": st.dictionaries(st.text(max_size=4), values, max_size=2),
        },
    ),
    st.integers(0, 3),
)


def spread(draw: st.DrawFn, value: object) -> str:
    """A value with any white space between its parts."""
    if isinstance(value, dict):
        rows = [
            f"{draw(blank)}{json.dumps(key, ensure_ascii=draw(st.booleans()))}{draw(blank)}:"
            f"{draw(blank)}{spread(draw, item)}{draw(blank)}"
            for key, item in value.items()
        ]
        return "{" + (",".join(rows) or draw(blank)) + "}"
    if isinstance(value, list):
        return (
            "["
            + (
                ",".join(f"{draw(blank)}{spread(draw, item)}{draw(blank)}" for item in value)
                or draw(blank)
            )
            + "]"
        )
    return json.dumps(value)


@st.composite
def texts(draw: st.DrawFn) -> str:
    value = draw(documents)
    how = draw(st.sampled_from(["pretty", "tabs", "one line", "compact", "any"]))
    if how == "any":
        return draw(blank) + spread(draw, value) + draw(blank)
    text = {
        "pretty": lambda: json.dumps(value, indent=draw(st.integers(1, 4))),
        "tabs": lambda: json.dumps(value, indent="\t", ensure_ascii=False),
        "one line": lambda: json.dumps(value),
        "compact": lambda: json.dumps(value, separators=(",", ":")),
    }[how]()
    text += draw(st.sampled_from(["", "\n", "\n\n"]))
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


def edited(content: bytes | None, *, connect: bool, mcp: bool = False) -> bytes | None:
    wanted = CLAUDE.entries if connect else ()
    if mcp:
        wanted += (
            table.Entry(
                ("mcpServers", "coordledger"),
                {"command": "coordledger", "args": ["mcp"]},
                listed=False,
            ),
        )
    return contents.json_edited(
        content, wanted=wanted, harness="claude", servers="mcpServers", before=""
    ).content


bom = st.sampled_from([b"", b"\xef\xbb\xbf"])


@given(texts(), bom, st.booleans())
@settings(max_examples=50, deadline=None)
def test_what_is_put_into_any_settings_is_taken_out_to_the_byte(text, mark, mcp):
    before = mark + text.encode()
    connected = edited(before, connect=True, mcp=mcp)
    assert connected is not None
    assert connected != before
    assert edited(connected, connect=True, mcp=mcp) == connected
    assert edited(connected, connect=False) == before


@given(texts())
@settings(max_examples=50, deadline=None)
def test_what_is_there_stays_as_it_is_and_where_it_is(text):
    before = json.loads(text)
    after = json.loads(edited(text.encode(), connect=True))
    assert list(after)[: len(before)] == list(before)
    own = after.pop("hooks")
    theirs = before.pop("hooks", {})
    assert after == before
    for event, items in theirs.items():
        assert own[event][: len(items)] == items
    ours = [
        (("hooks", event), item)
        for event, items in own.items()
        for item in items[len(theirs.get(event, [])) :]
    ]
    assert sorted(map(repr, ours)) == sorted(repr(tuple(entry[:2])) for entry in CLAUDE.entries)


@given(texts(), st.data())
@settings(max_examples=50, deadline=None)
def test_what_its_user_adds_meanwhile_stays_and_nothing_else_does(text, data):
    """A member is put anywhere among those of the outermost object, and a hook behind ours."""
    before = json.loads(text)
    assume("added" not in before)
    whole = edited(text.encode(), connect=True).decode()
    parts, _ = json_text._parts(whole, json_text._skip(whole, 0))
    at = data.draw(st.integers(0, len(parts)))
    member = '"added": [1,  2]'
    if at < len(parts):
        whole = f"{whole[: parts[at].start]}{member},\n{whole[parts[at].start :]}"
    else:
        whole = f"{whole[: parts[-1].end]},{member}{whole[parts[-1].end :]}"
    whole = json_text.put(whole, ("hooks", "Stop"), {"hooks": [{"command": "mine"}]}, listed=True)
    after = edited(whole.encode(), connect=False).decode()
    assert member in after
    value = json.loads(after)
    assert value.pop("added") == [1, 2]
    assert value["hooks"]["Stop"].pop() == {"hooks": [{"command": "mine"}]}
    for empty in ("hooks", "Stop") if "hooks" not in before else ("Stop",):
        holder = value if empty == "hooks" else value["hooks"]
        if not holder[empty] and empty not in (before if empty == "hooks" else before["hooks"]):
            del holder[empty]
        if empty == "hooks" and value.get("hooks") in ({}, {"Stop": []}):
            del value["hooks"]
            break
    assert value == before


@given(texts(), st.sampled_from(CLAUDE.entries), st.data())
@settings(max_examples=50, deadline=None)
def test_older_or_mangled_hooks_of_ours_are_mended_and_taken_out(text, entry, data):
    old = table.Entry(
        entry.path, {"hooks": [{"command": "/old/bin/coordledger agent-hook claude"}]}, listed=True
    )
    some = data.draw(st.lists(st.sampled_from([old, *CLAUDE.entries]), min_size=1, max_size=4))
    connected = text
    for one in some:
        connected = json_text.put(connected, one.path, one.value, listed=True)
    mended = edited(connected.encode(), connect=True)
    assert sorted(map(repr, json.loads(mended)["hooks"]["Stop"])) == sorted(
        map(repr, json.loads(edited(text.encode(), connect=True))["hooks"]["Stop"])
    )
    assert edited(mended, connect=True) == mended
    assert edited(mended, connect=False) == text.encode()


def test_a_file_that_was_made_goes_and_one_that_was_empty_stays():
    made = edited(None, connect=True)
    assert edited(made, connect=False) is None
    for empty in (
        b"{}",
        b"{}\n",
        b"{ }",
        b"{\n}\n",
        b'{"hooks": {}}\n',
        b'{"hooks": {"Stop": []}}',
    ):
        assert edited(edited(empty, connect=True), connect=False) == empty
    lonely = b'{\n  "mine": 1\n}\n'
    connected = edited(lonely, connect=True).replace(b'"mine": 1,\n  ', b"")
    assert json.loads(edited(connected, connect=False)) == {}


def test_the_layout_of_a_made_file_stays_for_it_is_known_by_that():
    long = {"hooks": [{"type": "command", "command": "coordledger", "args": ["a" * 46]}]}
    entries = [(("hooks", "A"), {"b": 1}, True), (("hooks", "A"), long, True)]
    entries += [(("servers", "c"), {"d": []}, False)]
    assert (
        json_text.made(entries, '"version": 1, ')
        == f"""\
{{"version": 1, "hooks": {{
  "A": [
    {{"b": 1}},
    {{
      "hooks": [{{"type": "command", "command": "coordledger", "args": ["{"a" * 46}"]}}]
    }}
  ]
}}, "servers": {{"c": {{"d": []}}}}}}
"""
    )


def test_a_made_file_that_somebody_has_written_anew_is_theirs():
    made = edited(None, connect=True)
    assert edited(b"\xef\xbb\xbf" + made, connect=False) == b"\xef\xbb\xbf{}\n"
    assert edited(made + b"\n", connect=False) == b"{}\n\n"


def test_a_made_file_that_its_user_has_added_to_keeps_that():
    made = edited(None, connect=True).decode()
    added = made.replace('{"hooks"', '{"mine": 1, "hooks"', 1).encode()
    assert json.loads(edited(added, connect=False)) == {"mine": 1}


def test_a_hook_that_stands_in_a_group_of_its_users_goes_alone():
    ours = {"type": "command", "command": "coordledger", "args": ["agent-hook", "claude"]}
    group = {"matcher": "Bash", "hooks": [{"command": "mine.sh"}, ours]}
    text = json.dumps({"hooks": {"Stop": [group]}})
    assert (
        edited(text.encode(), connect=False)
        == json.dumps(
            {"hooks": {"Stop": [{"matcher": "Bash", "hooks": [{"command": "mine.sh"}]}]}}
        ).encode()
    )


@pytest.mark.parametrize(
    "command",
    [
        "coordledger agent-hook codex",  # another harness's
        "coordledger agent-hook claude && mine",
        "coordledger status",
        "echo coordledger agent-hook claude",
        "my-coordledger agent-hook claude",
        "'",
    ],
)
def test_what_is_only_like_ours_is_its_users(command):
    text = json.dumps({"hooks": {"Stop": [{"hooks": [{"command": command}]}]}}).encode()
    assert edited(text, connect=False) == text


REFUSED = [
    (b"", "it is empty, which is not JSON"),
    (b"// mine\n{}", "a comment in line 1, column 1: what has comments is not rewritten"),
    (
        b'{\n  "a": 1, /* b */\n}',
        "a comment in line 2, column 11: what has comments is not rewritten",
    ),
    (b'{"a": 1,}', "not plain JSON in line 1, column 9"),
    (b'{"a": 1', "not plain JSON in line 1, column 8"),
    (b'{"a": NaN}', "NaN is not JSON"),
    (b"[]", "it is no JSON object"),
    (b"\xff\xfe{\x00}\x00", "it is not UTF-8"),
    (b'{"hooks": {}, "hooks": {}}', 'it has "hooks" twice'),
    (b'{"hooks": []}', '"hooks" is no object'),
    (b'{"hooks": {"Stop": {}}}', '"Stop" is no list'),
    (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "it is nested too deeply"),
]


@pytest.mark.parametrize(("content", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_cannot_be_changed_without_a_risk_is_refused(content, why):
    with pytest.raises(Unreadable, match=f"^{why.replace('*', '[*]')}$"):
        edited(content, connect=True)


@given(st.binary(max_size=60))
def test_any_bytes_are_changed_or_refused(content):
    try:
        after = edited(content, connect=True)
    except Unreadable:
        return
    assert edited(after, connect=False) == content


# -- blocks

lines = st.lists(st.text(alphabet="ab \t\r<!-#", max_size=6), max_size=5)


@given(
    lines,
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.sampled_from([marked.MARKDOWN, marked.HASH]),
)
@settings(max_examples=50, deadline=None)
def test_a_block_is_taken_out_to_the_byte(rows, newline, ends, marks):
    text = newline.join(rows) + (newline if ends else "")
    for block in ("one\n", "one\ntwo\n"):
        with_block = marked.put(text, marks, block)
        assert marked.find(with_block, marks) == block
        assert marked.put(with_block, marks, block) == with_block
        assert marked.take(with_block, marks) == text
        assert marked.take(marked.put(with_block, marks, "other\n"), marks) == text
        assert with_block != marked.made(marks, block)


@given(lines, lines)
def test_what_is_written_around_a_block_stays(above, below):
    text = "\n".join(["first", *above]) + "\n"
    with_block = marked.put(text, marked.MARKDOWN, "one\n")
    more = "\n".join(below) + "\n"
    assert marked.take(f"# Title\n{with_block}{more}", marked.MARKDOWN) == f"# Title\n{text}{more}"


def edited_block(content: bytes | None, block: str | None) -> bytes | None:
    return contents.block_edited(content, marks=marked.MARKDOWN, block=block).content


def test_a_text_that_was_made_for_the_block_goes_with_it_and_an_empty_one_stays():
    assert edited_block(edited_block(None, "one\n"), None) is None
    assert edited_block(edited_block(b"", "one\n"), None) == b""
    assert edited_block(edited_block(b"\xef\xbb\xbf", "one\n"), None) == b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "text",
    [
        "<!-- coordledger:begin -->\n",
        "<!-- coordledger:end -->\n",
        "<!-- coordledger:end -->\n<!-- coordledger:begin -->\n",
        "<!-- coordledger:begin -->\n<!-- coordledger:end -->\n" * 2,
    ],
)
def test_marks_that_are_no_pair_are_refused(text):
    for block in ("one\n", None):
        with pytest.raises(Unreadable, match="are no pair"):
            edited_block(text.encode(), block)


def toml(content: bytes | None, program: str | None) -> contents.Edited:
    return contents.toml_edited(content, program=program)


@pytest.mark.parametrize("before", [b"", b'model = "m"', b'model = "m"\n[a]\nb = 1\n', None])
def test_a_table_is_put_behind_any_toml_and_taken_out(before):
    with_it = toml(before, "/opt/a b/coordledger").content
    assert toml(with_it, "/opt/a b/coordledger").content == with_it
    assert toml(with_it, None).content == before
    import tomllib

    servers = tomllib.loads(with_it.decode())["mcp_servers"]
    assert servers == {"coordledger": {"command": "/opt/a b/coordledger", "args": ["mcp"]}}


def test_toml_that_has_no_place_for_a_table_is_refused_or_left():
    own = b'[mcp_servers.coordledger]\ncommand = "mine"\n'
    assert toml(own, "coordledger") == (own, (), ("mcp_servers.coordledger is somebody's own",))
    for refused in (b"mcp_servers = {}\n", b"a = \n", b'a = """\n'):
        with pytest.raises(Unreadable):
            toml(refused, "coordledger")


def test_a_program_is_deleted_unless_somebody_has_changed_it():
    def program(content: bytes | None, source: str | None) -> bytes | None:
        return contents.program_edited(content, source=source).content

    made = program(None, "one()\n")
    assert program(made, "one()\n") == made
    assert program(made, None) is None
    assert program(program(made, "two()\n"), None) is None
    for theirs in (b"mine()\n", made + b"mine()\n", b""):
        for source in ("one()\n", None):
            with pytest.raises(Unreadable, match="somebody has written or changed it"):
                program(theirs, source)
