"""An alias: installed proc-receive hooks import their start from here."""

from coordledger.server.sequencer import start

__all__ = ["start"]
