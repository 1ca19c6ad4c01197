"""Test levels: plain Python first, then nodes, whole graphs and replayed bags.

    pytest                   all levels but hardware, in this order
    pytest --level core      one level; several: --level core,node

A test file belongs to the level that it marks (`pytestmark = pytest.mark.launch`); without a mark
to `node` if it mentions rclpy, else to `core`. Files of other levels are not even imported, so
`--level core` runs where there is no ROS.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

LEVELS = ("core", "node", "launch", "replay", "hardware")
BY_DEFAULT = ("core", "node", "launch", "replay")


def level_of(path: Path) -> str:
    """Return the level of a test file."""
    text = path.read_text(encoding="utf-8")
    marked = re.search(rf"^pytestmark\b.*pytest\.mark\.({'|'.join(LEVELS)})\b", text, re.MULTILINE)
    if marked:
        return marked[1]
    return "node" if "rclpy" in text else "core"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --level."""
    parser.addoption("--level", help=f"levels to run, by commas: {', '.join(LEVELS)}")


def _wanted(config: pytest.Config) -> tuple[str, ...]:
    given = config.getoption("--level")
    if not given:
        return BY_DEFAULT
    levels = tuple(given.split(","))
    for level in levels:
        if level not in LEVELS:
            raise pytest.UsageError(f"--level {level}: must be of {', '.join(LEVELS)}")
    return levels


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out test files of other levels, unless they are named on the command line."""
    if not collection_path.match("test_*.py"):
        return None
    named = {Path(argument.split("::")[0]).resolve() for argument in config.args}
    if not config.getoption("--level") and collection_path.resolve() in named:
        return None
    return True if level_of(collection_path) not in _wanted(config) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its level and run the levels in order."""
    levels = {path: level_of(path) for path in {item.path for item in items}}
    for item in items:
        item.add_marker(levels[item.path])
    items.sort(key=lambda item: LEVELS.index(levels[item.path]))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Let a level that has no test here pass: `make test-robot` on a machine without a robot."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.getoption("--level"):
        session.exitstatus = pytest.ExitCode.OK
