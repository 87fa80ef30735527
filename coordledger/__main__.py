"""`coordledger`, and `python -m coordledger`: the command line."""

from __future__ import annotations

import gc


def main() -> int:
    """Run the command that was typed; its exit code."""
    gc.set_threshold(50_000)  # before the imports: a short command has no cycles to look for
    from .cli import main as run  # noqa: PLC0415

    return run()


if __name__ == "__main__":
    raise SystemExit(main())
