"""How shells complete a command line of ours: what they run, and how names are written for each.

Rules: a name from the ledger is somebody else's text. It gets onto the command line as one word
that the shell takes for nothing but text, or not at all; one that begins with `-` would be an
option, and is not offered. zsh and fish quote what they insert. bash inserts it as it is, so it is
quoted here, for the quotation mark that is open; and as bash replaces only what follows the last of
its word breaks (`:`, `=`), only that is given to it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from click.shell_completion import BashComplete, CompletionItem, add_completion_class

if TYPE_CHECKING:
    from typing import Any

_SCRIPT = """\
%(complete_func)s() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
        plain,*) COMPREPLY+=("${line#plain,}") ;;
        *) compopt -o default ;;
        esac
    done < <(COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS=$COMP_WORDBREAKS \\
        %(complete_var)s=bash_complete "$1" 2> /dev/null)
}
complete -F %(complete_func)s %(prog_name)s
"""
_SPECIAL = re.compile(r"[^A-Za-z0-9_@%+=:,./-]")
_BAD_INSIDE = {  # what means something inside of quotation marks
    "'": "'",
    '"': '"$`\\!',
}  # what ends an open quotation mark, or means something in it


class Bash(BashComplete):
    """bash, whose script gives us the whole line: its words are taken apart at `:` and `=`."""

    source_template = _SCRIPT

    @staticmethod
    def _check_version() -> None:
        """A shell may ask for the script anywhere."""

    def get_completion_args(self) -> tuple[list[str], str]:
        self._quote, self._broken = "", ""
        words, self._quote = split_line(os.environ.get("COMP_LINE", ""))
        *args, incomplete = words[1:] or [""]
        breaks = set(os.environ.get("COMP_WORDBREAKS", "")) - set(" \t\n\"'")
        given = incomplete.partition("=")[2] if incomplete.startswith("--") else incomplete
        at = max((given.rfind(char) for char in breaks), default=-1)
        self._broken = "" if self._quote else given[: at + 1]
        return args, incomplete

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[Any]]:
        bad = set(_BAD_INSIDE.get(self._quote, ""))
        found = super().get_completions(args, incomplete)
        return [item for item in found if bad.isdisjoint(item.value)]

    def format_completion(self, item: CompletionItem[Any]) -> str:
        value = item.value.removeprefix(self._broken)
        if not self._quote:
            value = _SPECIAL.sub(lambda found: "\\" + found[0], value)
        return f"{item.type},{value}"


def split_line(line: str) -> tuple[list[str], str]:
    """The words of a command line for bash, the last of them unfinished, and the quotation mark
    that is open in it. Nothing is expanded.
    """
    words, word, quote, is_open = [], "", "", False
    chars = iter(line)
    for char in chars:
        if char == quote:
            quote = ""
        elif quote:
            word += char
        elif char in "'\"":
            quote, is_open = char, True
        elif char == "\\":
            word, is_open = word + next(chars, ""), True
        elif char in " \t\n":
            if word or is_open:
                words.append(word)
            word, is_open = "", False
        else:
            word += char
    return [*words, word], quote


def register() -> None:
    """From now on click completes for bash as it is done here."""
    add_completion_class(Bash)
