"""`coordledger`, and `python -m coordledger`: the command line."""

from __future__ import annotations

import gc
import sys


def main() -> int:
    """Run the command that was typed; its exit code."""
    gc.set_threshold(200_000)  # before the imports: a short command has no cycles to look for
    try:
        return _answer()
    finally:
        gc.freeze()  # nor does the interpreter's end, which looks for some in all that was imported


def _answer() -> int:
    if sys.argv[1:2] == ["agent-hook"] and {"-h", "--help"}.isdisjoint(sys.argv):
        # Many times in each session, and no words that it does not know end it: without click.
        from .integrations.agent_hook import main as answer  # noqa: PLC0415

        return answer(sys.argv[2:])
    from .cli import main as run  # noqa: PLC0415

    return run()


if __name__ == "__main__":
    raise SystemExit(main())
