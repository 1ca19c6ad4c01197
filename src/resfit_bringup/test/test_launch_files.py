"""The launch files start what the graph describes: same arguments, nodes, parameters, rules."""

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.launch

for module in ("launch", "launch_ros"):
    # The folder launch/ at the top level must not pass for the package of that name.
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        pytest.skip(f"ROS package '{module}' is not installed", allow_module_level=True)

from launch.actions import DeclareLaunchArgument, LogInfo, Shutdown, TimerAction
from launch_ros.actions import Node

from launch import LaunchContext
from resfit_bringup import checks, launch_front, paths
from resfit_bringup.errors import UsageError
from resfit_bringup.graph import JOBS, resolve
from resfit_bringup.rules import Limits, Rules

LAUNCH = Path(__file__).resolve().parents[3] / "launch"
HASHES = {"robot": "r", "task": "t", "contract_sha256": "c", "base_sha256": "b"}


@pytest.fixture
def workspace(share, monkeypatch):
    """A workspace where every node is installed and every check passes."""
    monkeypatch.setattr(checks, "check", lambda plan: HASHES)
    monkeypatch.setattr(paths, "executable", lambda package, name: Path("/bin/true"))
    return share


def description(job):
    file = LAUNCH / f"{job}.launch.py"
    spec = importlib.util.spec_from_file_location(f"launch_{job}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def execute(job, **given):
    """Return the actions that the launch file adds once it knows its arguments."""
    context = LaunchContext()
    context.launch_configurations.update({k: str(v) for k, v in given.items()})
    *declared, start = description(job).entities
    for action in declared:
        action.execute(context)
    return start.execute(context)


@pytest.mark.parametrize("job", JOBS)
def test_arguments_are_the_graphs(job):
    declared = {
        a.name: "".join(s.text for s in a.default_value)
        for a in description(job).entities
        if isinstance(a, DeclareLaunchArgument)
    }
    assert declared == {a.name: a.as_text() for a in JOBS[job].arguments}


@pytest.mark.parametrize("job", [j.name for j in JOBS.values() if not j.blind])
def test_nodes_are_the_graphs(workspace, job):
    run_dir = workspace.parent / "runs" / job
    nodes = [a for a in execute(job, run_dir=run_dir) if isinstance(a, Node)]
    wanted = resolve(job, {"run_dir": str(run_dir)}).nodes

    assert [(a.node_package, a.node_executable) for a in nodes] == [
        (n.package, n.executable) for n in wanted
    ]
    for node in wanted:
        assert (run_dir / "config" / "nodes" / f"{node.name}.yaml").is_file()


def test_nodes_are_put_into_their_enclaves(workspace, monkeypatch):
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    run_dir = workspace.parent / "runs" / "cup"
    (node,) = (a for a in execute("learner", run_dir=run_dir) if isinstance(a, Node))
    words = [part.text for word in node.cmd for part in word if hasattr(part, "text")]
    assert words[words.index("--enclave") + 1] == "/learner"


def test_a_wrong_argument_stops_the_launch(workspace):
    with pytest.raises(UsageError, match="clock:=sun"):
        execute("train", clock="sun")


class Exited:
    """What launch tells of a process that ended."""

    def __init__(self, returncode):
        self.returncode = returncode


@pytest.mark.parametrize(
    ("name", "code", "ends"),
    [
        ("twin", 0, True),
        ("vega_driver", 1, True),
        ("episode_manager", 0, True),
        ("episode_manager", 1, False),
        ("learner", 1, False),
        ("learner", 2, True),
    ],
)
def test_a_death_means_the_same_as_in_resfit_run(workspace, monkeypatch, name, code, ends):
    seen = {}

    class Recorded(Node):
        def __init__(self, *, on_exit, **kwargs):
            seen["on_exit"] = on_exit
            super().__init__(on_exit=on_exit, **kwargs)

    monkeypatch.setattr(launch_front.launch_ros.actions, "Node", Recorded)
    plan = resolve("train", {"report": "false"})
    node = next(n for n in plan.nodes if n.name == name)
    launch_front.node_action(plan, node, workspace, Rules(Limits(), "episode_manager"))
    said, action = seen["on_exit"](Exited(code), LaunchContext())
    assert isinstance(said, LogInfo)
    assert isinstance(action, Shutdown if ends else TimerAction)


def test_a_finished_training_writes_its_report_before_the_graph_stops(workspace):
    plan = resolve("train", {"video": "false"})
    node = next(n for n in plan.nodes if n.name == "episode_manager")
    rules = Rules(Limits(), "episode_manager")
    action = launch_front.node_action(plan, node, workspace, rules)
    (handler,) = [v for k, v in vars(action).items() if k.endswith("__on_exit")]
    _, report = handler(Exited(0), LaunchContext())
    words = [part.text for word in report.cmd for part in word]
    assert words == ["resfit", "report", str(workspace), "--no-video"]
