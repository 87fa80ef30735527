"""The command that serves a model's harness."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import params
from .common import command, root

if TYPE_CHECKING:
    from datetime import timedelta

    from .common import App


@command(
    "mcp",
    parent=root,
    example="claude mcp add coordledger -- coordledger mcp",
)
def mcp(app: App) -> None:
    """Serve the ledger's tools by MCP, on stdin and stdout.

    Harnesses start it. Needs the extra: pip install 'coordledger[mcp]'.
    """
    from coordledger.integrations.mcp_server import AtWork, Service  # noqa: PLC0415

    def span(text: str) -> timedelta:
        return params.LEASE.convert(text, None, None)

    Service(app.options(), os.environ, span, AtWork()).serve()
