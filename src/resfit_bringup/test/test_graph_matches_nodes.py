"""Every parameter that the graph gives is declared by the node it goes to.

Nodes refuse parameters they do not know, so a slip here would be found when the graph starts; this
finds it without ROS. Read from the source: node packages are known by name only.
"""

import re
from pathlib import Path

import pytest

from resfit_bringup.graph import JOBS

SOURCE = Path(__file__).resolve().parents[2]
DECLARED = re.compile(r"""declare\(\s*(?:self|node),\s*"(\w+)\"""")
NODES = {
    (n.package, n.name): n
    for job in JOBS.values()
    for n in job.nodes
    if n.package.startswith("resfit_")  # others' nodes are not looked into
}
EVERYWHERE = {"use_sim_time"}  # every ROS node has it


def declared(package: str) -> set[str]:
    found = set()
    for file in (SOURCE / package / package).rglob("*.py"):
        found |= set(DECLARED.findall(file.read_text()))
    return found


@pytest.mark.parametrize("key", NODES, ids=lambda key: key[1])
def test_node_declares_what_the_graph_gives(key):
    package, name = key
    if not (SOURCE / package / package / f"{name}_node.py").is_file():
        pytest.skip(f"{package} has no {name}_node.py yet")
    known = declared(package) | declared("resfit_ros")
    for job in JOBS.values():
        for node in job.nodes:
            if (node.package, node.name) == key:
                assert set(node.parameters) - known - EVERYWHERE == set(), f"job {job.name}"


@pytest.mark.parametrize("key", NODES, ids=lambda key: key[1])
def test_node_is_installed_under_its_name(key):
    package, name = key
    setup = SOURCE / package / "setup.py"
    if not setup.is_file():
        pytest.skip(f"{package} has no setup.py yet")
    assert f"{name} = {package}." in setup.read_text()
