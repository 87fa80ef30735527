"""Names from other trackers as task ids: percent-encoding (RFC 3986 section 2.1, of UTF-8).

Rules: what is an id already stays as it is, so an id that was read from a record or from JSON is
always understood. In everything else each character that no id may have, and each `%`, is
encoded. An id is shown decoded only if it is the encoded form of what is shown.
"""

from __future__ import annotations

import re

from coordledger.format.names import is_task

_CONTROL = r"[\x00-\x1f\x7f-\x9f]"
_ENCODED = r"%([0-9A-F]{2})"


def encode(name: str) -> str:
    """The id for a name; it may be too long for one.

    Raises `ValueError`: the name is not UTF-8, or has a control character: nobody means that.
    """
    if is_task(name):
        return name
    if re.search(_CONTROL, name):
        raise ValueError("a control character")
    return "".join(
        char if "!" <= char <= "~" and char != "%" else _encoded(char.encode("utf-8"))
        for char in name
    )


def decode(task: str) -> str:
    """The name that an id is the encoded form of, or the id."""
    if "%" not in task:
        return task
    data = re.sub(_ENCODED, lambda found: chr(int(found[1], 16)), task).encode("latin-1")
    try:
        name = data.decode("utf-8")
        return name if encode(name) == task else task
    except ValueError:
        return task


def _encoded(data: bytes) -> str:
    return "".join(f"%{byte:02X}" for byte in data)
