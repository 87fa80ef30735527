"""Fixtures of the server's tests: sequencing fleets, residents, hooks that die."""

from __future__ import annotations

from support.server_fixtures import crashing, own_attacker, sequenced_fleet, served

__all__ = ["crashing", "own_attacker", "sequenced_fleet", "served"]
