"""Every job's nodes, described once, as data.

`launch/*.launch.py` turns a description into `launch_ros` actions, `resfit run` into processes;
both call :func:`resolve` and can therefore not disagree. `ROS_DOMAIN_ID` and the discovery range
come from the environment; nothing here names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from resfit_bringup import blind, paths, run_file
from resfit_bringup.arguments import Argument, parse_all
from resfit_bringup.errors import UsageError
from resfit_bringup.graph_checks import check_reward
from resfit_bringup.graph_nodes import (
    BASE_POLICY,
    LEARNER,
    LEARNER_HERE,
    PLAYER,
    RECORDER,
    REPLAYED,
    RESIDUAL_POLICY,
    REWARD_BUTTON,
    SUCCESS_CLASSIFIER,
    TRAIN_RECORDER,
    TWIN,
    VEGA_DRIVER,
    ZED_CAMERA,
    in_gazebo,
    manager,
    sealed,
    with_panel,
)
from resfit_bringup.graph_types import Job, Node, Plan, Ref
from resfit_bringup.node_parameters import merge
from resfit_core.blind import seal

LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")

# --- arguments -----------------------------------------------------------------------------------

ROBOT = Argument("robot", "vega_1", "robot: a name in config/robot, or a YAML file")
TASK = Argument("task", "woolly_ball_pnp", "task: a name in config/task, or a YAML file")
OBSERVATION = Argument("observation", "state", "which of the task's observation variants")
CLOCK = Argument(
    "clock", "lockstep", "lockstep: the twin waits for every answer; realtime: wall clock",
    choices=("lockstep", "realtime"),
)  # fmt: skip
BASE = Argument(
    "base", "", "frozen base policy: .safetensors, TorchScript .pt, or package.module:Class;"
    " empty: the task's shipped checkpoint",
)  # fmt: skip
DEMOS = Argument("demos", "", "folder of demonstration bags; empty: the task's shipped ones")
RUN_DIR = Argument(
    "run_dir",
    "",
    "folder of the run; an existing one is continued; empty: runs/<time>",
    kept=False,
)
SEED = Argument("seed", 0, "seed of the run: scenes of training, exploration, learner", least=0)
EPISODES = Argument("episodes", 300, "episodes to train on, warm-up included", least=0)
WARMUP = Argument(
    "warmup_episodes",
    -1,
    "episodes of base and noise before learning; -1: as train_config",
    least=-1,
)
EVALUATE = Argument(
    "evaluate_episodes", 10, "evaluation seeds run through the nodes, once by each policy", least=0
)
SYNCHRONOUS = Argument(
    "synchronous", False, "true: the learner takes its turn between episodes (reproducible)"
)
WAIT = Argument("wait_for_learner", True, "wait between episodes while too many updates are owed")
TRAIN_CONFIG = Argument(
    "train_config",
    "",
    "learning settings: a name in config/train, or a YAML file; empty: those of"
    " task and observation where config/train has some, else default",
)
KEYBOARD = Argument(
    "keyboard", True, "the terminal's keys work as the operator's button", kept=False
)
MAPPING = Argument(
    "mapping", "", "YAML of what keys, buttons and pedals mean; empty: the defaults", kept=False
)
KEYPAD = Argument(
    "keypad", "", "input device of a USB pedal or keypad, /dev/input/…; empty: none", kept=False
)
TELEOP = Argument(
    "teleop", "none", "who may take over: gamepad: a person with one; expert: the twin's expert "
    "plays a person; none: nobody, or who publishes teleop_command",
    choices=("none", "gamepad", "expert"), kept=False,
)  # fmt: skip
TELEOP_MAPPING = Argument(
    "teleop_mapping", "", "YAML of what sticks and keys move; empty: config/operator/teleop.yaml",
    kept=False,
)  # fmt: skip
AUTO_RESET = Argument(
    "auto_reset", False, "clock:=realtime: between episodes the robot goes to the task's start "
    "pose (<task>.start.yaml) by itself",
)  # fmt: skip
PANEL_ON = Argument("panel", False, "true: the operator's panel, a web page", kept=False)
PANEL_HOST = Argument(
    "panel_host", "127.0.0.1", "address of the panel; 0.0.0.0: reachable from outside, by token",
    kept=False,
)  # fmt: skip
PANEL_PORT = Argument("panel_port", 8080, "port of the panel; 0: any", least=0, kept=False)
CLIENT = Argument(
    "client", "", "the robot behind the driver: twin; fake: numbers; dexcontrol: Vega; external:"
    " whatever reads joint_command; empty: as <robot>.driver.yaml says, else the twin",
    choices=("", *paths.CLIENTS),
)  # fmt: skip
BRIDGE = Argument(
    "bridge", "", "YAML of ros_gz_bridge: which topics of Gazebo are which of ours; empty: that of"
    " the robot in config/gazebo",
)  # fmt: skip
CAMERA = Argument(
    "camera", "none", "sdk, uvc or file: the node zed_camera sends the images, by that source;"
    " none: the twin sends them, or a camera node of your own",
    choices=("none", "sdk", "uvc", "file"),
)  # fmt: skip
CAMERA_FILE = Argument(
    "camera_file", "", "video or folder of pictures for camera:=file; empty: <robot>.camera.yaml's"
)
REWARD = Argument(
    "reward", "button", "who presses success: button (on the twin its oracle), or the classifier,"
    " which asks the operator where it is unsure; the button works in both",
    choices=("button", "classifier"),
)  # fmt: skip
CLASSIFIER = Argument(
    "classifier", "none", "file of 'resfit train-classifier', for reward:=classifier"
)
PARAMS_FILE = Argument(
    "params_file", "", "ROS parameter YAML laid over the graph's; empty: none", kept=False
)
LOG_LEVEL = Argument(
    "log_level", "info", "log level of every node", choices=LOG_LEVELS, kept=False
)
EVALUATE_SEEDS = Argument(
    "evaluate_seeds", 200, "evaluation seeds of the report; those not run through the nodes run "
    "in-process; 0: only those through the nodes", least=0,
)  # fmt: skip
REPORT = Argument("report", True, "write the report when the run is finished", kept=False)
VIDEO = Argument("video", True, "put a video of base beside residual into the report", kept=False)
KEEP_WEIGHTS = Argument(
    "keep_weights", 10, "versions of the weights that stay on disk, for replay; 0: all", least=0
)
LEARNER_AT = Argument(
    "learner", "here", "here; or external: on another machine, by 'resfit run learner' there",
    choices=("here", "external"),
)  # fmt: skip
RECORD = Argument(
    "record", "numbers", "what of the sensors goes into the bags besides steps and actions: none,"
    " numbers, or cameras (full images as well)", choices=("none", "numbers", "cameras"),
)  # fmt: skip

BAG = Argument(
    "bag", "", "what to replay: an episode, a run, or a folder of episodes; several by commas",
    kept=False,
)  # fmt: skip
WEIGHTS = Argument(
    "weights", "", "residual weights to replay with; empty: those of the bag's run", kept=False
)
TOLERANCE = Argument(
    "tolerance", 0.0, "differences up to this do not count; 0: equal to the bit", least=0,
    kept=False,
)  # fmt: skip

SITE = (
    ROBOT, TASK, OBSERVATION, CLOCK, CLIENT, CAMERA, CAMERA_FILE, RECORD, REWARD, CLASSIFIER,
)  # fmt: skip
ENDS = (
    RUN_DIR, KEYBOARD, MAPPING, KEYPAD, TELEOP, TELEOP_MAPPING, AUTO_RESET,
    PANEL_ON, PANEL_HOST, PANEL_PORT, PARAMS_FILE, LOG_LEVEL,
)  # fmt: skip

TRAIN_ARGUMENTS = (
    BASE, DEMOS, TRAIN_CONFIG, EPISODES, WARMUP, EVALUATE, EVALUATE_SEEDS, SEED, SYNCHRONOUS, WAIT,
    KEEP_WEIGHTS, LEARNER_AT, REPORT, VIDEO, *ENDS,
)  # fmt: skip
TRAIN_NODES = with_panel(
    TWIN, ZED_CAMERA, VEGA_DRIVER, BASE_POLICY, RESIDUAL_POLICY, TRAIN_RECORDER, LEARNER_HERE,
    REWARD_BUTTON, SUCCESS_CLASSIFIER,
    manager(
        mode="train",
        episodes=Ref("episodes"),
        warmup_episodes=Ref("warmup_episodes"),
        evaluate_episodes=Ref("evaluate_episodes"),
        synchronous=Ref("synchronous"),
        wait_for_learner=Ref("wait_for_learner"),
    ),
)  # fmt: skip


JOBS: dict[str, Job] = {
    job.name: job
    for job in (
        Job(
            "train",
            "improve a frozen base policy on the twin by residual RL, then report",
            (*SITE, *TRAIN_ARGUMENTS),
            TRAIN_NODES,
        ),
        Job(
            "evaluate",
            "compare policies of the training in run_dir blindly, in matched rounds, all nodes",
            (*SITE, BASE, TRAIN_CONFIG, *blind.ARGUMENTS, SEED, REPORT, *ENDS),
            with_panel(
                TWIN, ZED_CAMERA, VEGA_DRIVER, sealed(BASE_POLICY),
                sealed(RESIDUAL_POLICY, stop_early=Ref("stop_early")), RECORDER, REWARD_BUTTON,
                SUCCESS_CLASSIFIER,
                sealed(manager(
                    mode="evaluate",
                    auto_start=Ref("auto_start"),
                    synchronous=False,
                    wait_for_learner=False,
                )),
            ),
            blind=True,
        ),
        Job(
            "record",
            "record demonstrations of the twin's scripted expert, through all nodes",
            (*SITE, Argument("base", "resfit_sim.expert:ExpertBase", "who demonstrates"),
             TRAIN_CONFIG, Argument("episodes", 21, "demonstrations to record", least=1), SEED,
             *ENDS),
            with_panel(
                TWIN, ZED_CAMERA, VEGA_DRIVER, BASE_POLICY, RESIDUAL_POLICY, RECORDER,
                REWARD_BUTTON, SUCCESS_CLASSIFIER,
                manager(
                    mode="demo",
                    episodes=Ref("episodes"),
                    warmup_episodes=0,
                    evaluate_episodes=0,
                    synchronous=False,
                    wait_for_learner=False,
                ),
            ),
        ),
        Job(
            "replay",
            "play recorded sensors through the live nodes; compare with what was recorded",
            (BAG, ROBOT, TASK, OBSERVATION, BASE, TRAIN_CONFIG, SEED, WEIGHTS, TOLERANCE, RUN_DIR,
             PARAMS_FILE, LOG_LEVEL),
            (
                PLAYER,
                *(replace(n, parameters={k: REPLAYED.get(k, v) for k, v in n.parameters.items()})
                  for n in (VEGA_DRIVER, BASE_POLICY, RESIDUAL_POLICY)),
            ),
            finisher=PLAYER.name,
        ),
        Job(
            "learner",
            "the learner alone, for a 'train learner:=external' of the same run_dir elsewhere",
            (ROBOT, TASK, OBSERVATION, CLOCK, BASE, DEMOS, TRAIN_CONFIG, EPISODES, WARMUP, SEED,
             SYNCHRONOUS, KEEP_WEIGHTS, RUN_DIR, PARAMS_FILE, LOG_LEVEL),
            (LEARNER,),
            finisher=LEARNER.name,
        ),
        Job(
            "gazebo",
            "as train, on a robot in Gazebo, through ros_gz_bridge",
            (replace(ROBOT, default="arm7"), replace(TASK, default="arm7_reach"), OBSERVATION,
             replace(CLOCK, default="realtime", choices=("realtime",)),
             replace(CLIENT, default="external", choices=("external",)), CAMERA, CAMERA_FILE,
             RECORD, REWARD, CLASSIFIER, BRIDGE, *TRAIN_ARGUMENTS),
            in_gazebo(TRAIN_NODES),
        ),
    )
}  # fmt: skip


def job_named(name: str) -> Job:
    """Return the job called `name`.

    Raises:
        UsageError: If there is none.
    """
    if name not in JOBS:
        raise UsageError(f"'{name}' is not a job; known: {', '.join(JOBS)}")
    return JOBS[name]


def resolve(name: str, given: Mapping[str, str]) -> Plan:
    """Fill in every value of a job; starts and writes nothing.

    Args:
        name: Of the job.
        given: Arguments as text, those left out take their defaults.

    Raises:
        UsageError: If the job, an argument, a value or a named file does not exist.
    """
    job = job_named(name)
    values = parse_all(job.arguments, given, name)  # the user's mistakes before an old run's
    folder = before = Path(paths.run_dir(given.get("run_dir", "")))
    if job.blind:
        folder, before = blind.place(before, values)
    if "bag" in given:
        given = run_file.with_the_bags_run(given, job.arguments)
    if (before / run_file.NAME).exists():
        given = run_file.with_inherited(given, job.arguments, before)
    values = {**parse_all(job.arguments, given, name), "run_dir": str(folder)}
    robot_file = paths.config_file("robot", values["robot"])
    if "client" in values:
        _choose_client(values, robot_file, clock_given="clock" in given)
    if "bridge" in values:
        values["bridge"] = paths.config_file("gazebo", values["bridge"] or Path(robot_file).stem)
    if job.blind:
        values |= {
            "seal": str(folder / seal.FOLDER),
            "source": str(before),
            "auto_start": values["auto_start"] and values["simulated"],
        }
    sources = {
        "robot": robot_file,
        "task": paths.config_file("task", values["task"]),
        "train": paths.train_config(values["train_config"], values["task"], values["observation"]),
    }
    if values.get("camera", "none") != "none" and values["clock"] == "lockstep":
        raise UsageError(
            f"camera:={values['camera']} sees a real scene, which waits for nobody: give "
            "clock:=realtime as well"
        )
    if "reward" in values:
        check_reward(values)
    if values.get("camera_file"):
        values["camera_file"] = str(Path(values["camera_file"]).resolve())
    if values.get("teleop") == "gamepad":
        values["teleop_mapping"] = paths.teleop_mapping(values["teleop_mapping"])
    values["base"] = paths.base(values["base"], values["task"], values["observation"])
    if "demos" in values:
        values["demos"] = paths.demos(values["demos"], values["task"])
    if values.get("warmup_episodes") == -1:
        values["warmup_episodes"] = paths.warmup_episodes(sources["train"])
    # Nodes read the run's own copies: one that is started again later finds what it had before.
    copies = {f"{kind}_file": str(run_file.config_copy(folder, kind)) for kind in sources}
    wanted = [n for n in job.nodes if _is_wanted(n, values)]
    elsewhere = values.get("learner") == "external"
    expected = [n.name for n in wanted if n.when != "panel"] + ["learner"] * elsewhere
    filled = {
        **values,
        **copies,
        "expected_nodes": ",".join(expected),
        "learner_elsewhere": elsewhere,
    }
    nodes = tuple(replace(n, parameters=_filled(n.parameters, filled)) for n in wanted)
    if values["params_file"]:
        nodes = merge(nodes, values["params_file"])
    return Plan(name, values, nodes, sources, job.finisher)


def _choose_client(values: dict[str, Any], robot_file: str, *, clock_given: bool) -> None:
    """Fill in who plays the robot; what is no simulator of ours waits for nobody."""
    values["client"] = paths.client(values["client"], robot_file)
    values["simulated"] = values["client"] == "twin"
    if not values["simulated"] and not clock_given:
        values["clock"] = "realtime"
    if not values["simulated"] and values["clock"] == "lockstep":
        raise UsageError(
            f"client '{values['client']}' waits for nobody: give clock:=realtime, or client:=twin"
        )


def _is_wanted(node: Node, values: Mapping[str, Any]) -> bool:
    name, _, value = node.when.partition("=")
    return not name or (values[name] == value if value else values[name] not in (False, "none"))


def _filled(parameters: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: values[v.name] if isinstance(v, Ref) else v for k, v in parameters.items()}
