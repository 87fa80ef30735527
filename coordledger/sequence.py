"""An alias: installed proc-receive hooks import their start from here."""

from coordledger.server.proc_receive import start

__all__ = ["start"]
