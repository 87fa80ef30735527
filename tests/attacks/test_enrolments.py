"""Where no hook is: somebody who can push enrols keys of their own by MACs that few can check.

Rules: the attacker has git, a clone and an SSH key; agents' homes are apart, and share the remote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.fleet import hermetic
from support.hookless_host import HooklessHost
from support.ssh_keys import SshKey

from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.errors import Failed, Integrity
from coordledger.format import records, signing, timestamps
from coordledger.format.chain import Chain
from coordledger.format.signing import SSH, Keyring, Secret
from coordledger.setup import genesis, joining

if TYPE_CHECKING:
    from pathlib import Path

    from coordledger.format.signing import SigningKey

EVE = SshKey.of("eve")
GUESSED = Secret("e" * 43)


class Homes:
    """A ledger of alice's on a host without hooks, and a home for each of its readers."""

    def __init__(self, root: Path, ssh_key: str | None) -> None:
        self.root = root
        self.host = HooklessHost(root, hermetic(root / "alice-home"))
        self.wrapper = {k: v for k, v in self.host.env.items() if k.startswith("GIT_SSH")}
        self.envs = {"alice": self.host.env}
        options = Options(self.host.clone("alice"), agent="alice", ssh_key=ssh_key)
        genesis.init(options, self.host.env, self.host.url, 30)
        self.ops = 0

    def open(self, agent: str) -> Ledger:
        return Ledger.open(self.root / agent, agent, environ=self.envs[agent])

    def join(self, agent: str, **kw: Any) -> joining.Joined:
        self.envs[agent] = hermetic(self.root / f"{agent}-home") | self.wrapper
        options = Options(self.host.clone(agent), agent=agent)
        return joining.join(options, self.envs[agent], self.host.url, new_key=True, **kw)

    def enrol(self, agent: str) -> None:
        line = self.join(agent).public
        with self.open("alice") as ledger:
            ledger.enroll_ssh(agent, str(line))

    def push(self, agent: str, kind: str, by: SigningKey, **given: Any) -> None:
        """A record in the agent's name as it would have to be, signed with `by`."""
        self.ops += 1
        with self.open("mallory") as ledger:
            replica = ledger.connection.replica
            head = replica.refresh().head
            assert head
            repository = ledger.connection.local.repository
            chain = Chain(repository.read, Keyring(), head, "sha1")
            common = {
                "v": 1,
                "ledger": head.record["ledger"],
                "at": timestamps.show(max(ledger.connection.clock(), 1000 * head.committed)),
                "agent": agent,
                "key": 1,
                "session": "s",
                "op": f"{self.ops:032x}",
                "base": {"digest": head.digest, "seq": head.seq},
                "kind": kind,
            }
            if kind == "enroll":
                entry = chain.state.agent(given["who"]) or {"rev": 0, "keys": []}
                common |= {"rev": entry["rev"] + 1, "id": len(entry["keys"]) + 1, "alg": SSH}
                common |= {"verifier": EVE.public, "role": "agent", "under": None}
            if kind == "claim":
                until = timestamps.show(ledger.connection.clock() + 600_000)
                given["tasks"] = [{"task": given.pop("task"), "rev": 1, "epoch": 1}]
                common |= {"until": until, "reopen": False, "note": None, "paths": []}
            signed = signing.sign(records.check(common | given), by)
            proposal = chain.propose(signed)
            repository.write(proposal.objects)
        refspec = f"{proposal.commit.oid}:refs/coordledger/main"
        self.host.git("push", "--quiet", self.host.url, refspec, cwd=self.root / "mallory")

    def read_by(self, agent: str, task: str) -> tuple[str, str]:
        """What this reader is told about the claim: its verdict, and who checked it."""
        with self.open(agent) as ledger:
            (claim,) = [one for one in ledger.tasks() if one.task == task]
            assert {one.checked for one in ledger.history(task)} == {claim.checked}
            for check in (None, "here"):
                if claim.checked == "nobody":
                    with pytest.raises(Failed) as refused:
                        ledger.require(task, check=check)
                    assert refused.value.code == ("no-key" if check else "nobody-checked")
            checked = ledger.audit(full=True).checked
            assert ("nobody" in checked) == (claim.checked == "nobody")
            return claim.verdict, claim.checked


def test_a_key_that_a_forged_mac_enrols_is_nobodys(tmp_path: Path) -> None:
    homes = Homes(tmp_path, None)
    homes.enrol("bob")
    homes.join("mallory")
    with homes.open("bob") as ledger:
        ledger.claim("bobs")
    homes.push("alice", "enroll", GUESSED, who="carol")
    homes.push("carol", "claim", EVE, task="carols")
    for reader in ("bob", "mallory"):
        assert homes.read_by(reader, "carols") == ("unverified", "nobody")
    homes.join("late")
    assert homes.read_by("late", "carols") == ("unverified", "nobody")
    # who has the secret sees the forgery, and stops below it
    with homes.open("alice") as ledger:
        with pytest.raises(Integrity) as refused:
            ledger.require("carols")
        assert refused.value.code == "bad-signature"
        assert [problem["code"] for problem in ledger.audit(full=True).problems]


def test_an_admin_by_a_forged_mac_enrols_nobody_whom_others_take_for_checked(
    tmp_path: Path,
) -> None:
    """In a ledger that was founded with an SSH key, where one admin has a secret."""
    homes = Homes(tmp_path, "new")
    homes.enrol("bob")
    with homes.open("alice") as ledger:
        ledger.enroll("adam", admin=True, secret=Secret("a" * 43))
        ledger.enroll_ssh("eve", f"{SSH} {EVE.public}")
    homes.join("mallory")
    with homes.open("bob") as ledger:
        ledger.claim("bobs")
    homes.push("eve", "claim", EVE, task="eves")
    assert homes.read_by("bob", "eves") == ("authentic", "here")
    homes.push("adam", "enroll", GUESSED, who="eve", role="admin")
    homes.push("eve", "enroll", EVE, who="bob")  # a key of eve's under bob's name
    homes.push("bob", "claim", EVE, task="stolen", key=2)
    assert homes.read_by("mallory", "stolen") == ("unverified", "nobody")
    with homes.open("alice") as ledger:  # she has adam's secret
        assert [problem["code"] for problem in ledger.audit(full=True).problems]
    with homes.open("bob") as ledger:
        checked = {one.task: one.checked for one in ledger.tasks()}
        assert checked == {"bobs": "here", "eves": "here", "stolen": "nobody"}
