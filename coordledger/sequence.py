"""An alias: installed proc-receive hooks import their start from here."""

from .server.sequence import start

__all__ = ["start"]
