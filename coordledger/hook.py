"""An alias: installed pre-receive hooks import their start from here."""

from coordledger.server.pre_receive import start

__all__ = ["start"]
