"""The code by which something is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coordledger.errors import CoordledgerError

if TYPE_CHECKING:
    from collections.abc import Callable


def refusal(act: Callable[[], object]) -> str:
    """That of the error that `act` raises, which it has to."""
    with pytest.raises(CoordledgerError) as caught:
        act()
    return caught.value.code
