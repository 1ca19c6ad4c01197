"""The shipped policies allow what the nodes really open: seen from outside, graph by graph."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

for module in ("rclpy", "torch", "mujoco", "honcho", "nicegui"):
    pytest.importorskip(module, reason=f"{module} is not installed ('make setup' installs it)")

import security_policies as policies

pytestmark = [pytest.mark.launch, pytest.mark.usefixtures("domain_id")]


@pytest.mark.parametrize("name", policies.GRAPHS)
def test_what_the_nodes_open_is_allowed(name, tmp_path):
    """Bug: what nodes opened since the file was written was missing; Enforce would refuse it."""
    seen = policies.watch(name, tmp_path)
    assert all(rules["topics", "publish"] for rules in seen.values())
    assert policies.lacking(seen, policies.read()) == []


def test_the_graphs_hold_every_node(tmp_path):
    """A node that no graph starts would not be looked at."""
    started = set()
    for number, name in enumerate(policies.GRAPHS):
        folder = tmp_path / str(number)
        folder.mkdir()
        job, *words = policies.words_of(name, folder)
        plan = policies.resolve(job, dict(word.split(":=", 1) for word in words))
        started |= {node.name for node in plan.nodes}
    assert policies.ours() - started == set()
    assert policies.ours() <= set(policies.read())
