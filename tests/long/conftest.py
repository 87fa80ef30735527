"""The fixtures that long tests of the server share with the others."""

from support.server_fixtures import crashing, own_attacker, served

__all__ = ["crashing", "own_attacker", "served"]
