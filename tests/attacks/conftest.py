"""What all attacks share: the forges and fleets of tests/git, the command line of tests/cli."""

from __future__ import annotations

from cli.conftest import inside  # noqa: F401 - a fixture
from git.conftest import forge, forge_for, founded, town  # noqa: F401 - fixtures
