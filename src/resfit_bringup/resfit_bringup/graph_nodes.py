"""Every node of the jobs; a :class:`Ref` among its parameters stands for an argument's value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from resfit_bringup.graph_types import FINISHER, Node, Ref

CONTRACT = {
    "robot_file": Ref("robot_file"),
    "task_file": Ref("task_file"),
    "observation": Ref("observation"),
}
TICK = {**CONTRACT, "clock": Ref("clock")}
RUN = {"run_dir": Ref("run_dir"), "seed": Ref("seed")}

BASE_POLICY = Node("resfit_base", "base_policy", {**TICK, "base": Ref("base")})
RESIDUAL_POLICY = Node(
    "resfit_residual", "residual_policy",
    {**TICK, **RUN, "base": Ref("base"), "train_config": Ref("train_file")},
)  # fmt: skip
RECORDER = Node(
    "resfit_residual", "recorder", {**TICK, "run_dir": Ref("run_dir"), "record": Ref("record")}
)
LEARNER = Node(
    "resfit_residual", "learner",
    {**CONTRACT, **RUN, "base": Ref("base"), "demos": Ref("demos"),
     "train_config": Ref("train_file"), "synchronous": Ref("synchronous"), "clock": Ref("clock"),
     "keep_weights": Ref("keep_weights")},
)  # fmt: skip
VEGA_DRIVER = Node(
    "resfit_vega_driver", "vega_driver",
    {**TICK, **{name: Ref(name) for name in ("base", "client", "auto_reset")}}, required=True,
)  # fmt: skip
# With the learner on another machine the recorder keeps its weights on this one.
TRAIN_RECORDER = replace(
    RECORDER,
    parameters={
        **RECORDER.parameters,
        "store_weights": Ref("learner_elsewhere"),
        "keep_weights": Ref("keep_weights"),
    },
)
LEARNER_HERE = replace(LEARNER, when="learner=here")
REWARD_BUTTON = Node(
    "resfit_reward", "reward_button",
    {"keyboard": Ref("keyboard"), "clock": Ref("clock"), "mapping": Ref("mapping"),
     "keypad": Ref("keypad")},
    console=True,
)  # fmt: skip
TWIN = Node(
    "resfit_sim", "twin", {**TICK, "camera": Ref("camera"), "reward": Ref("reward")},
    required=True, when="simulated",
)  # fmt: skip
GZ_BRIDGE = Node("ros_gz_bridge", "parameter_bridge", {"config_file": Ref("bridge")}, True)
SUCCESS_CLASSIFIER = Node(
    "resfit_reward", "success_classifier",
    {**CONTRACT, "classifier": Ref("classifier")}, when="classifier",
)  # fmt: skip
ZED_CAMERA = Node(
    "resfit_vega_driver", "zed_camera",
    {**CONTRACT, "source": Ref("camera"), "file": Ref("camera_file")}, when="camera",
)  # fmt: skip


TELEOP_NODE = Node(
    "resfit_reward", "teleop",
    {**TICK, "teleop_mapping": Ref("teleop_mapping"), "keyboard": False},
    when="teleop=gamepad",
)  # fmt: skip
EXPERT_TELEOP = Node("resfit_sim", "expert_teleop", TICK, when="teleop=expert")
# A bag waits for every answer, whatever clock it was made by, and no arm is moved back.
REPLAYED = {"clock": "lockstep", "auto_reset": False, "client": "twin"}
PLAYER = Node(
    "resfit_residual", "player",
    {**CONTRACT, "bag": Ref("bag"), "weights": Ref("weights"), "tolerance": Ref("tolerance"),
     "run_dir": Ref("run_dir")},
    required=True,
)  # fmt: skip


def with_panel(*nodes: Node) -> tuple[Node, ...]:
    """Add the panel; it knows by name whom to miss."""
    parameters = {
        **TICK,
        "run_dir": Ref("run_dir"),
        "panel_host": Ref("panel_host"),
        "panel_port": Ref("panel_port"),
        "expected_nodes": Ref("expected_nodes"),
    }
    panel = Node("resfit_reward", "panel", parameters, when="panel")
    return (*nodes, TELEOP_NODE, EXPERT_TELEOP, panel)


def manager(**parameters: Any) -> Node:
    """Return the episode manager of a job."""
    train_config = {"train_config": Ref("train_file")}
    # Where no twin resets the scene a person does, and says so.
    own = {**train_config, "auto_reset": Ref("auto_reset"), "auto_start": Ref("simulated")}
    return Node("resfit_reward", FINISHER, {**TICK, **RUN, **own, **parameters})


def sealed(node: Node, **parameters: Any) -> Node:
    """Give a node the seal of a blind evaluation."""
    return replace(node, parameters={**node.parameters, "seal": Ref("seal"), **parameters})


def in_gazebo(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Put the bridge in the twin's place, and every node on Gazebo's clock."""
    ours = (n for n in nodes if n is not TWIN)
    timed = (replace(n, parameters={**n.parameters, "use_sim_time": True}) for n in ours)
    return (GZ_BRIDGE, *timed)
