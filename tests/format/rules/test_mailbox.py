"""Send, ack and drop: inboxes, threads and channels."""

import pytest
from support.memory_ledger import (
    MemoryLedger,
)

from coordledger.errors import RuleBroken
from coordledger.format import canonical, timestamps


class TestInbox:
    def test_a_message_is_a_line_at_the_end(self):
        fleet = MemoryLedger("bob", "dave")
        fleet.put("bob", "send", to="dave", body="one")
        at = timestamps.show(fleet.now)
        more = {"body": "two\n\x1b[31m", "thread": 3, "importance": "high", "session": "s7"}
        fleet.put("alice", "send", to="dave", **more)
        assert [line["seq"] for line in fleet.state.inbox("dave")] == [3, 4]
        assert fleet.state.inbox("dave")[1] == {"agent": "alice", "seq": 4, "at": at} | more
        assert fleet.state.inbox("bob") == []

    def test_has_a_limited_number_of_messages(self):
        fleet = MemoryLedger("bob", "dave", policy={"inbox_messages": 3, "inbox_reserve": 0})
        for agent in ("bob", "dave", "bob"):
            fleet.put(agent, "send", to="alice")
        assert fleet.refusal("dave", "send", to="alice") == "mailbox-full"
        assert fleet.refusal("dave", "send", to="bob") == ""
        fleet.put("alice", "ack", messages=[4])
        assert fleet.refusal("dave", "send", to="alice") == ""

    def test_has_a_limited_number_of_messages_from_one_sender(self):
        fleet = MemoryLedger("bob", "dave", policy={"sender_messages": 2})
        for _ in range(2):
            fleet.put("bob", "send", to="alice", session="s8")
        assert fleet.refusal("bob", "send", to="alice") == "mailbox-full"
        assert fleet.refusal("dave", "send", to="alice") == ""
        assert fleet.refusal("bob", "send", to="dave") == ""

    def test_has_a_limited_number_of_bytes_from_one_sender_line_ends_included(self):
        fleet = MemoryLedger("bob", "dave", policy={"sender_bytes": 1024})
        fleet.put("dave", "send", to="alice", body="x" * 500)
        fleet.put("bob", "send", to="alice", body="x" * 500)
        size = len(fleet.state.tree.get("inbox/alice.jsonl")) - len(
            canonical.encode(fleet.state.inbox("alice")[0]) + b"\n"
        )
        empty = size - 500
        room = 1024 - size - empty
        assert fleet.refusal("bob", "send", to="alice", body="x" * room) == ""
        assert fleet.refusal("bob", "send", to="alice", body="x" * (room + 1)) == "mailbox-full"

    def test_has_a_limited_number_of_bytes_whoever_they_are_from(self, monkeypatch):
        fleet = MemoryLedger("bob", "dave", policy={"inbox_reserve": 0})
        fleet.put("dave", "send", to="alice", body="x" * 500)
        fleet.put("bob", "send", to="alice", body="x" * 500)
        size = len(fleet.state.tree.get("inbox/alice.jsonl"))
        monkeypatch.setattr("coordledger.format.rules.mailbox.INBOX_BYTES", size + size // 2)
        assert fleet.refusal("bob", "send", to="alice", body="x" * 500) == ""
        assert fleet.refusal("bob", "send", to="alice", body="x" * 502) == "mailbox-full"

    def test_tells_senders_apart_whose_names_begin_alike(self):
        fleet = MemoryLedger("bob", "bobby", "bo", policy={"sender_messages": 1})
        fleet.put("bobby", "send", to="alice", body='{"agent":"bob",')
        fleet.put("bo", "send", to="alice")
        assert fleet.refusal("bob", "send", to="alice") == ""
        assert fleet.refusal("bobby", "send", to="alice") == "mailbox-full"

    def test_is_an_active_agents(self):
        fleet = MemoryLedger("bob")
        assert fleet.refusal("alice", "send", to="erin") == "unknown-agent"
        fleet.put("alice", "enroll", who="bob")
        fleet.put("alice", "revoke", who="bob", id=1)
        assert fleet.refusal("alice", "send", to="bob") == ""
        fleet.put("alice", "revoke", who="bob", id=2)
        assert fleet.refusal("alice", "send", to="bob") == "unknown-agent"
        fleet.put("alice", "enroll", who="bob")
        assert fleet.refusal("alice", "send", to="bob") == ""

    def test_may_be_ones_own(self):
        assert MemoryLedger().refusal("alice", "send", to="alice") == ""

    def test_an_ack_removes_its_lines_and_the_last_one_removes_the_file(self):
        fleet = MemoryLedger("bob")
        for _ in range(4):
            fleet.put("bob", "send", to="alice")
        kept = fleet.state.inbox("alice")[1]
        fleet.put("alice", "ack", messages=[2, 4, 5])
        assert fleet.state.inbox("alice") == [kept]
        fleet.put("alice", "ack", messages=[3])
        assert fleet.state.tree.names("inbox") == []
        assert "inbox" not in fleet.state.tree.names("")

    def test_an_ack_names_messages_in_ones_own_inbox(self):
        fleet = MemoryLedger("bob", "dave")
        fleet.put("bob", "send", to="alice")
        fleet.put("alice", "send", to="bob")
        fleet.put("alice", "send", channel="general")
        for messages in ([4], [5], [0], [3, 4], [99]):
            assert fleet.refusal("alice", "ack", messages=messages) == "not-in-inbox"
        assert fleet.refusal("dave", "ack", messages=[3]) == "not-in-inbox"
        fleet.put("alice", "ack", messages=[3])
        assert fleet.refusal("alice", "ack", messages=[3]) == "not-in-inbox"


class TestReserve:
    """The last part of an inbox is for what is urgent, and nobody gets more than a share."""

    def test_takes_no_message_that_is_not_high(self):
        fleet = MemoryLedger("bob", "dave", policy={"inbox_messages": 8, "inbox_reserve": 2})
        for _ in range(6):
            assert fleet.refusal("bob", "send", to="alice") == ""
            fleet.put("bob", "send", to="alice")
        for importance in ("low", "normal"):
            given = {"to": "alice", "importance": importance}
            assert fleet.refusal("dave", "send", **given) == "mailbox-full"
        fleet.put("dave", "send", to="alice", importance="high")
        fleet.put("alice", "send", to="alice", importance="high")
        assert fleet.refusal("carol", "send", to="alice", importance="high") == "unknown-key"
        assert fleet.refusal("bob", "send", to="alice", importance="high") == "mailbox-full"
        fleet.put("alice", "ack", messages=[3])
        assert fleet.refusal("bob", "send", to="alice") == "mailbox-full"
        assert fleet.refusal("bob", "send", to="alice", importance="high") == ""

    @pytest.mark.parametrize(
        ("messages", "reserve", "normal"),
        [(1, 128, 1), (2, 128, 1), (3, 3, 2), (9, 128, 5), (9, 1, 8), (3, 0, 3)],
    )
    def test_is_no_more_than_half_of_the_inbox(self, messages, reserve, normal):
        policy = {"inbox_messages": messages, "inbox_reserve": reserve}
        fleet = MemoryLedger("bob", policy=policy)
        for _ in range(normal):
            fleet.put("bob", "send", to="alice")
        assert fleet.refusal("bob", "send", to="alice") == "mailbox-full"
        high = fleet.refusal("bob", "send", to="alice", importance="high")
        assert high == ("mailbox-full" if messages == normal else "")

    def test_has_room_after_one_agent_with_all_its_delegates_has_sent_all_that_it_can(self):
        fleet = MemoryLedger("bob", "dave", *(f"bob.x{n}" for n in range(6)))
        flooders = ["bob", *(f"bob.x{n}" for n in range(6))]
        sent = dict.fromkeys(("normal", "high"), 0)
        for importance in sent:
            for flooder in flooders:
                given = {"to": "alice", "importance": importance, "key": fleet.state.agent(flooder)}
                given["key"] = given["key"]["keys"][0]["id"]
                while not fleet.refusal(flooder, "send", **given):
                    fleet.put(flooder, "send", **given)
                    sent[importance] += 1
        assert sent == {"normal": 224, "high": 8}
        assert fleet.refusal("dave", "send", to="alice") == "mailbox-full"
        for _ in range(8):
            fleet.put("dave", "send", to="alice", importance="high", body="x" * 500)
        assert fleet.refusal("dave", "send", to="alice", importance="high") == "mailbox-full"

    def test_what_was_urgent_before_counts_for_the_share_and_uses_nothing_of_the_reserve(self):
        fleet = MemoryLedger("bob", "dave", policy={"inbox_messages": 16, "inbox_reserve": 8})
        for _ in range(8):
            fleet.put("bob", "send", to="alice", importance="high")
        assert fleet.refusal("bob", "send", to="alice", importance="high") == "mailbox-full"
        for _ in range(2):
            fleet.put("dave", "send", to="alice", importance="high")
        assert fleet.refusal("dave", "send", to="alice", importance="high") == "mailbox-full"

    def test_names_are_told_apart_that_begin_alike_and_no_body_looks_urgent(self):
        fleet = MemoryLedger("bob", "bobby", policy={"inbox_messages": 4, "inbox_reserve": 2})
        fleet.put("bobby", "send", to="alice", importance="high")
        fleet.put("bob", "send", to="alice", body=',"importance":"high",')
        assert fleet.refusal("bobby", "send", to="alice", importance="high") == "mailbox-full"
        fleet.put("bob", "send", to="alice", importance="high")

    def test_has_bytes_of_its_own(self):
        fleet = MemoryLedger("bob", "dave", "erin", "frank", "grace")
        for sender, body in (
            ("bob", 65_000),
            ("dave", 65_000),
            ("erin", 65_000),
            ("frank", 32_000),
        ):
            for _ in range(2):
                fleet.put(sender, "send", to="alice", body="x" * body)
        size = len(fleet.state.tree.get("inbox/alice.jsonl"))
        fleet.put("alice", "send", to="alice")
        empty = len(fleet.state.tree.get("inbox/alice.jsonl")) - size - len("hello")
        fleet = fleet.at(len(fleet.log) - 1)
        room = 524_288 - 65_536 - size - empty
        for importance, bytes_, code in (
            ("low", room + 3, ""),
            ("low", room + 4, "mailbox-full"),
            ("high", 16_384 - empty + 2, ""),
            ("high", 16_384 - empty + 3, "mailbox-full"),  # more than a share
        ):
            given = {"to": "alice", "importance": importance, "body": "x" * bytes_}
            assert fleet.refusal("grace", "send", **given) == code, (importance, bytes_)


class TestThreads:
    def test_name_something_that_the_sender_had_read(self):
        fleet = MemoryLedger("bob", "dave")
        base = {"digest": fleet.head.digest, "seq": fleet.head.seq}
        fleet.put("bob", "send", to="dave")
        for to in ({"to": "dave"}, {"channel": "general"}):
            for thread, code in ((2, ""), (0, ""), (3, "bad-thread"), (99, "bad-thread")):
                assert fleet.refusal("alice", "send", **to, thread=thread, base=base) == code
        assert fleet.refusal("alice", "send", to="dave", thread=3) == ""


class TestChannels:
    def test_shed_their_oldest_lines_by_number(self):
        fleet = MemoryLedger("bob", policy={"channel_messages": 3})
        for number in range(5):
            fleet.put("bob", "send", channel="general", body=f"m{number}")
        assert [m["body"] for m in fleet.state.channel("general")] == ["m2", "m3", "m4"]

    def test_shed_their_oldest_lines_by_bytes(self):
        fleet = MemoryLedger("bob", policy={"channel_bytes": 131_072})
        for number in range(2):
            fleet.put("bob", "send", channel="general", body=f"{number}" + "x" * 59_999)
        size = len(fleet.state.tree.get("channels/general.jsonl"))
        empty = size // 2 - 60_000
        room = 131_072 - size - empty
        for body, kept in (("x" * room, [2, 3, 4]), ("x" * (room + 1), [3, 4])):
            then = fleet.at(len(fleet.log))
            then.put("bob", "send", channel="general", body=body)
            assert [m["seq"] for m in then.state.channel("general")] == kept
        for _ in range(2):
            then.put("bob", "send", channel="general", body="y" * 65_000)
        assert [m["seq"] for m in then.state.channel("general")] == [5, 6]

    def test_shed_several_lines_at_once_when_the_policy_was_lowered(self):
        fleet = MemoryLedger()
        for number in range(5):
            fleet.put("alice", "send", channel="general", body=f"m{number}")
        fleet.put("alice", "policy", set={"channel_messages": 1})
        assert len(fleet.state.channel("general")) == 5
        fleet.put("alice", "send", channel="general", body="last")
        assert [m["body"] for m in fleet.state.channel("general")] == ["last"]

    def test_shed_as_many_small_lines_as_a_large_one_needs(self):
        fleet = MemoryLedger(policy={"channel_bytes": 131_072})
        for _ in range(7):
            fleet.put("alice", "send", channel="general", body="x" * 18_000)
        assert len(fleet.state.channel("general")) == 7
        fleet.put("alice", "send", channel="general", body="y" * 60_000)
        assert [m["seq"] for m in fleet.state.channel("general")] == [5, 6, 7, 8]
        assert len(fleet.state.tree.get("channels/general.jsonl")) <= 131_072

    def test_are_limited_in_number(self):
        fleet = MemoryLedger(policy={"channels": 2})
        for name in ("a", "b", "a"):
            fleet.put("alice", "send", channel=name)
        assert fleet.state.channels() == ["a", "b"]
        assert fleet.refusal("alice", "send", channel="c") == "too-many-channels"
        assert fleet.refusal("alice", "send", channel="b") == ""

    def test_are_dropped_by_an_admin_and_make_room_for_another(self):
        fleet = MemoryLedger("bob", policy={"channels": 2})
        for name in ("a", "b"):
            fleet.put("bob", "send", channel=name)
        assert fleet.refusal("bob", "drop", channel="a") == "not-permitted"
        assert fleet.refusal("alice", "drop", channel="c") == "unknown-channel"
        fleet.put("alice", "drop", channel="a")
        assert fleet.state.channels() == ["b"]
        assert fleet.refusal("alice", "drop", channel="a") == "unknown-channel"
        fleet.put("bob", "send", channel="c")
        fleet.put("alice", "drop", channel="b")
        fleet.put("bob", "send", channel="b", body="anew")
        assert [message["body"] for message in fleet.state.channel("b")] == ["anew"]


def test_a_full_inbox_names_few_of_many_senders():
    agents = ["bob", "carol", "dave", "erin", "frank", "grace"]
    fleet = MemoryLedger(*agents, policy={"inbox_messages": 7, "inbox_reserve": 0})
    for agent in [*agents, "grace"]:
        fleet.put(agent, "send", to="alice")
    with pytest.raises(RuleBroken) as broken:
        fleet.put("bob", "send", to="alice")
    said = "7 messages: 2 from grace, 1 from bob, 1 from carol, 1 from dave, 2 from others"
    assert broken.value.data["why"] == said


def test_what_is_left_is_said_to_be_for_what_is_urgent():
    fleet = MemoryLedger("bob", "dave", policy={"inbox_messages": 4, "inbox_reserve": 2})
    for _ in range(2):
        fleet.put("bob", "send", to="alice")
    with pytest.raises(RuleBroken) as broken:
        fleet.put("dave", "send", to="alice")
    size = len(fleet.state.tree.get("inbox/alice.jsonl"))
    said = f"2 messages, {size} bytes: 2 from bob; what is left is for importance high"
    assert broken.value.data["why"] == said
    fleet.put("bob", "send", to="alice", importance="high")
    with pytest.raises(RuleBroken) as broken:
        fleet.put("bob", "send", to="alice", importance="high")
    assert "a quarter of it for one agent: 1 from bob and below" in broken.value.data["why"]
