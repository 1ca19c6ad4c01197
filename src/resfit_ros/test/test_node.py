"""`run`, parameters and the lifecycle base, as a process and in process."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from resfit_ros.lifecycle import LifecycleNode
from resfit_ros.node import Node
from resfit_ros.parameters import ParameterError, declare, refuse_unknown
from resfit_ros.testing import domain

PROGRAM = """
    import sys
    import time
    from resfit_ros.node import Node, run
    from resfit_ros.parameters import declare

    class Sample(Node):
        def __init__(self):
            super().__init__("sample")
            self.what = declare(self, "what", "wait", "what to do")
            if self.what == "dawdle":
                print("still being made", flush=True)
                time.sleep(60)
            if self.what == "refuse":
                raise ValueError("bolt 7 is loose;\\n tighten it")
            self.create_timer(0.05, self.tick)

        def tick(self):
            print("up", flush=True)
            if self.what == "break":
                raise RuntimeError("the arm fell off")
            if self.what == "leave":
                self.finish(0)

        def stop(self):
            if self.what == "slow":
                time.sleep(0.5)
            print("safe", flush=True)

    sys.exit(run(Sample))
"""


def start(*parameters):
    words = [w for p in parameters for w in ("-p", p)]
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), "--ros-args", *words]
    return subprocess.Popen(command, stdout=-1, stderr=-1, text=True)


@pytest.fixture(autouse=True)
def _own_domain(monkeypatch):
    with domain() as number:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
        monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        monkeypatch.delenv("RESFIT_DEBUG", raising=False)
        yield


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_node_and_the_safe_command_still_goes_out(number):
    process = start()
    process.stdout.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert out.endswith("safe\n")


def test_a_doubled_ctrl_c_still_lets_the_node_stop():
    """A terminal sends SIGINT to the whole group, and the front end passes it on."""
    process = start("what:=slow")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert out.endswith("safe\n")


def test_a_signal_while_the_node_is_being_made_leaves_at_once_without_a_backtrace():
    process = start("what:=dawdle")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")


def test_refused_input_is_one_line_and_code_2():
    process = start("what:=refuse")
    out, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert err.count("\n") == 1 and "bolt 7 is loose; tighten it" in err and out == ""


def test_a_misspelt_parameter_is_refused_with_the_nearest_one():
    process = start("wat:=refuse")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "unknown parameter 'wat'; did you mean 'what'?" in err


def test_an_exception_in_a_callback_ends_the_process_with_its_reason():
    process = start("what:=break")
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err == "[sample] RuntimeError: the arm fell off\n"
    assert out.endswith("safe\n")


def test_finish_leaves_with_0():
    process = start("what:=leave")
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")


def declared(ros, value, default, **facts):
    class Holder(Node):
        def __init__(self, **kwargs):
            super().__init__("holder", **kwargs)
            self.value = declare(self, "speed", default, "a speed", **facts)

    return ros.add(Holder, {} if value is None else {"speed": value})


def test_parameters_have_the_type_of_their_default(ros):
    assert declared(ros, 5, 1.0).value == 5.0
    assert declared(ros, [1, 2], [0.5]).value == [1.0, 2.0]
    with pytest.raises(ParameterError, match="'speed' is 'x', expected float"):
        declared(ros, "x", 1.0)
    with pytest.raises(ParameterError, match="'speed' is True, expected int"):
        declared(ros, True, 1)
    with pytest.raises(ParameterError, match=r"'speed' is -1\.0, must be from 0 to inf"):
        declared(ros, -1.0, 1.0, range=(0, None))
    with pytest.raises(ParameterError, match="'speed' is 'up', expected one of"):
        declared(ros, "up", "fast", choices=["fast", "slow"])


def test_a_parameter_changes_at_run_time_only_where_allowed_and_within_its_range(ros):
    node = declared(ros, None, 1.0, range=(0, 2), read_only=False)
    good, bad = (node.set_parameters([Parameter("speed", value=v)])[0] for v in (2.0, 3.0))
    assert good.successful
    assert not bad.successful and "must be from 0 to 2" in bad.reason
    refuse_unknown(node)


class Arm(LifecycleNode):
    """Writes down what is asked of it."""

    def __init__(self, **kwargs):
        super().__init__("arm", **kwargs)
        self.said = []
        self.broken = declare(self, "broken", "", "step that fails")

    def _say(self, word):
        self.said.append((word, self.active))
        if word == self.broken:
            raise ValueError(f"{word} is broken")

    def _setup(self):
        self._say("setup")

    def _activate(self):
        self._say("activate")

    def _deactivate(self):
        self._say("deactivate")

    def _secure(self):
        self._say("secure")

    def _teardown(self):
        self._say("teardown")


def test_lifecycle_stops_first_and_sends_the_safe_command_last(ros):
    arm = ros.add(Arm)
    assert arm.active
    assert arm.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    arm.stop()
    assert [w for w, _ in arm.said] == ["setup", "activate", "deactivate", "secure", "teardown"]
    assert not any(active for _, active in arm.said)


def test_the_robot_is_secured_even_if_stopping_fails(ros):
    arm = ros.add(Arm, {"broken": "deactivate"})
    with pytest.raises(ValueError, match="deactivate is broken"):
        arm.stop()
    assert [w for w, _ in arm.said][-2:] == ["secure", "teardown"]
    arm.broken = ""


def test_a_failed_configure_ends_an_autostarted_node_in_words(ros):
    with pytest.raises(ValueError, match="setup is broken"):
        ros.add(Arm, {"broken": "setup"})


def test_without_autostart_the_node_waits_for_its_manager(ros):
    arm = ros.add(Arm, {"autostart": False})
    assert arm.said == []
    assert arm.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert arm.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert arm.active


def test_domains_differ():
    assert "ROS_DOMAIN_ID" in os.environ
    with domain() as one, domain() as two:
        assert one != two
    assert time.monotonic() > 0
