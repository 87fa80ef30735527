"""Void: it takes an op and does nothing else."""

from support.memory_ledger import MemoryLedger


def test_a_void_record_leaves_the_tree_as_it_was():
    fleet = MemoryLedger("bob")
    before = fleet.head.tree
    assert fleet.put("bob", "void").commit.tree == before
