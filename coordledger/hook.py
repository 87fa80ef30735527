"""An alias: installed pre-receive hooks import their start from here."""

from .server.hook import start

__all__ = ["start"]
