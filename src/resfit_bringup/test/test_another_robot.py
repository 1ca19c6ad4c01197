"""Another robot by YAML alone: in MuJoCo, on the fake client, and behind topics as Gazebo."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
ARM = ["robot:=arm7", "task:=arm7_reach", "base:=resfit_sim.reach_base:ReachBase"]


def plan(job, **given):
    from resfit_bringup.graph import resolve

    return resolve(job, {"robot": "arm7", "task": "arm7_reach", **given})


def names(found):
    return {node.name for node in found.nodes}


def test_the_yaml_is_short_and_names_eight_joints():
    from resfit_core.contract import load_contract

    robot = ROOT / "config/robot/arm7.yaml"
    assert len(robot.read_text().splitlines()) < 60
    contract = load_contract(robot, ROOT / "config/task/arm7_reach.yaml")
    assert (contract.action_dim, contract.obs_dim) == (8, 8 + 6 + 3 + 3)


BASE = "resfit_sim.reach_base:ReachBase"


def test_the_client_decides_who_plays_the_robot(share):
    """One graph: with a robot of its own the twin stays away and a person says when to start."""
    twin, fake = plan("record", base=BASE), plan("record", base=BASE, client="fake")
    assert names(twin) - names(fake) == {"twin"}
    assert (twin.values["clock"], fake.values["clock"]) == ("lockstep", "realtime")
    for found, simulated in ((twin, True), (fake, False)):
        parameters = {n.name: n.parameters for n in found.nodes}
        assert parameters["episode_manager"]["auto_start"] is simulated
        assert parameters["vega_driver"]["client"] == ("twin" if simulated else "fake")


def test_lock_step_needs_the_twin(share):
    from resfit_bringup.errors import UsageError

    with pytest.raises(UsageError, match="'external' waits for nobody: give clock:=realtime"):
        plan("record", base=BASE, client="external", clock="lockstep")


def test_gazebo_has_the_bridge_in_the_twins_place(share):
    train = plan("train", base=BASE)
    found = plan("gazebo", base=BASE)
    assert names(found) == names(train) - {"twin"} | {"parameter_bridge"}
    bridge, *ours = found.nodes
    assert Path(bridge.parameters["config_file"]) == share / "config/gazebo/arm7.yaml"
    assert all(node.parameters["use_sim_time"] is True for node in ours)
    parameters = {n.name: n.parameters for n in ours}
    assert parameters["vega_driver"]["client"] == "external"


def test_the_bridge_carries_every_topic_of_the_contract():
    """Topics of the bridge's file against those that the contract's robot and task need."""
    import yaml

    from resfit_core.contract import load_contract

    contract = load_contract(
        ROOT / "config/robot/arm7.yaml", ROOT / "config/task/arm7_reach.yaml", "pixels"
    )
    rows = yaml.safe_load((ROOT / "config/gazebo/arm7.yaml").read_text())
    ways = {row["ros_topic_name"]: row["direction"] for row in rows}
    heard = {"clock", "joint_states", "object_poses"}
    heard |= {f"{name}/wrench" for name in contract.wrenches}
    heard |= {camera.topic for camera in contract.cameras}
    assert ways == {**dict.fromkeys(heard, "GZ_TO_ROS"), "joint_command": "ROS_TO_GZ"}


# --- running -------------------------------------------------------------------------------------


def started(job, run_dir, *arguments, prefix=""):
    """Start a job as a process of its own, and the leader of its group as in a terminal."""
    env = {**os.environ}
    if prefix:
        env["AMENT_PREFIX_PATH"] = f"{prefix}{os.pathsep}{env['AMENT_PREFIX_PATH']}"
    command = [
        sys.executable, "-m", "resfit_bringup.main", "run", job, *ARM, *arguments,
        f"run_dir:={run_dir}", "keyboard:=false",
    ]  # fmt: skip
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def ended(process, timeout_s=120.0):
    """Return code and output; what hangs is killed."""
    try:
        return process.communicate(timeout=timeout_s)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(process.communicate()[0]) from None


@pytest.fixture
def domain():
    pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")
    from resfit_ros.testing import domain

    with domain() as number:
        yield number


@pytest.mark.launch
def test_records_in_mujoco_through_all_nodes(tmp_path, domain, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    process = started("record", tmp_path / "run", "episodes:=2")
    output = ended(process)
    assert process.returncode == 0, output
    manifests = sorted((tmp_path / "run/episodes").glob("*/manifest.json"))
    assert len(manifests) == 2, output
    assert all(json.loads(m.read_text())["complete"] for m in manifests)


class Person:
    """Presses START and RESET_DONE, plays what a client does not, and hears the driver."""

    def __init__(self, domain, objects=True):
        import rclpy
        from geometry_msgs.msg import PoseArray
        from sensor_msgs.msg import JointState

        from resfit_interfaces.msg import ExecutedCommand, OperatorEvent
        from resfit_ros import qos

        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("person", context=self.context)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.answers = []
        self.node.create_subscription(
            ExecutedCommand, "executed_command", self.answers.append, qos.reliable(400)
        )
        self.button = self.node.create_publisher(OperatorEvent, "button", qos.reliable(10))
        self.event = OperatorEvent
        if objects:
            poses = self.node.create_publisher(PoseArray, "object_poses", qos.sensor("realtime"))
            self.node.create_subscription(
                JointState, "joint_states", lambda m: poses.publish(target(m)),
                qos.sensor("realtime"),
            )  # fmt: skip

    def press(self, kind):
        self.button.publish(self.event(kind=kind, source="person"))

    def until_commands_pass(self, process, count=10, timeout_s=90.0):
        """Press until so many commands of the policy were carried out."""
        end = time.monotonic() + timeout_s
        pressed = 0.0
        while time.monotonic() < end and process.poll() is None:
            if time.monotonic() - pressed > 1.0:
                pressed = time.monotonic()
                self.press(self.event.START)
                self.press(self.event.RESET_DONE)
            self.executor.spin_once(timeout_sec=0.1)
            if sum(a.source == a.POLICY for a in self.answers) >= count:
                return True
        return False

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()


def target(joints):
    from geometry_msgs.msg import Pose, PoseArray

    out = PoseArray(header=joints.header, poses=[Pose()])
    out.poses[0].position.x, out.poses[0].position.z = 0.5, 0.3
    return out


@pytest.mark.launch
def test_runs_on_the_fake_client(tmp_path, domain, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    person = Person(domain)
    process = started("record", tmp_path / "run", "client:=fake", "episodes:=1")
    try:
        passed = person.until_commands_pass(process)
        process.send_signal(signal.SIGINT)
        output = ended(process, 30.0)
    finally:
        person.close()
    assert passed, output
    assert all(len(a.action_rad) == 8 for a in person.answers if a.source == a.POLICY)


class Arm:
    """Somebody else's robot: obeys `joint_command`, says where it is; no code of ours in it."""

    def __init__(self, person):
        from geometry_msgs.msg import WrenchStamped
        from sensor_msgs.msg import JointState
        from trajectory_msgs.msg import JointTrajectory

        node, self.commands = person.node, []
        self.position = np.array([0.0, 0.5, 0.0, 1.6, 0.0, 1.0, 0.0, 0.3])
        joints = node.create_publisher(JointState, "joint_states", 10)
        wrist = node.create_publisher(WrenchStamped, "wrist/wrench", 10)
        names = [*(f"j{k}" for k in range(1, 8)), "gripper"]

        def measure():
            self.position += np.random.default_rng().normal(0, 1e-6, 8)
            now = node.get_clock().now().to_msg()
            wrench = WrenchStamped()
            wrench.header.stamp = now
            wrist.publish(wrench)
            state = JointState(name=names, position=self.position.tolist())
            state.header.stamp = now
            joints.publish(state)

        def obey(msg):
            self.commands.append(list(msg.points[0].positions))
            self.position = np.array(msg.points[0].positions)

        node.create_subscription(JointTrajectory, "joint_command", obey, 10)
        node.create_timer(0.01, measure)


@pytest.mark.launch
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_robot_behind_topics_is_held_when_the_run_is_ended(
    tmp_path, domain, monkeypatch, number, code
):
    """`client:=external`; Ctrl-C goes to the whole group of the terminal's job."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    person = Person(domain)
    arm = Arm(person)
    process = started("record", tmp_path / "run", "client:=external", "episodes:=1")
    try:
        passed = person.until_commands_pass(process)
        os.killpg(process.pid, number)
        end = time.monotonic() + 30.0
        while process.poll() is None and time.monotonic() < end:
            person.executor.spin_once(timeout_sec=0.05)
        output = ended(process, 10.0)
        end = time.monotonic() + 0.3
        while time.monotonic() < end:  # what is still under way
            person.executor.spin_once(timeout_sec=0.05)
    finally:
        person.close()
    assert passed, output
    assert process.returncode == code, output
    in_force = [list(a.action_rad) for a in person.answers if a.source == a.POLICY][-1]
    assert arm.commands[-1] == arm.commands[-2] == in_force
    log = (tmp_path / "run/logs/vega_driver.log").read_text()
    assert "Traceback" not in log and "killed" not in output, output


STAND_IN = ROOT / "src/resfit_bringup/test/gazebo_stand_in.py"


@pytest.mark.launch
def test_gazebo_is_wired_through_the_bridge(tmp_path, domain, monkeypatch):
    """A stand-in for bridge and Gazebo opens what config/gazebo/arm7.yaml says, no more."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    program = tmp_path / "prefix/lib/ros_gz_bridge/parameter_bridge"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/usr/bin/env python3\n{STAND_IN.read_text()}")
    demos = tmp_path / "demos"
    recorded = started("record", demos, "episodes:=1")
    output = ended(recorded)
    assert recorded.returncode == 0, output
    process = started(
        "gazebo", tmp_path / "run", f"demos:={demos}", "report:=false", prefix=tmp_path / "prefix"
    )
    person = Person(domain, objects=False)
    try:
        passed = person.until_commands_pass(process)
        process.send_signal(signal.SIGINT)
        output = ended(process, 30.0)
    finally:
        person.close()
    assert passed, output
    log = tmp_path / "run/logs/parameter_bridge.log"
    assert "moved by joint_command" in log.read_text(), output
