"""The panel node over DDS: what it hears reaches the page, what is pressed reaches the graph."""

import json
import time
import urllib.error
import urllib.request

import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")
pytest.importorskip("nicegui", reason="NiceGUI is not installed: run 'make setup'")

from rcl_interfaces.msg import Log

from resfit_core.control.press import Press
from resfit_interfaces.msg import (
    DriverState,
    EpisodeState,
    LearnerStatus,
    LoopStats,
    OperatorEvent,
)
from resfit_reward.panel_node import PanelNode
from resfit_ros import qos


class Bench:
    """One panel on a free port, and everybody it talks to."""

    def __init__(self, ros, **parameters):
        self.ros = ros
        given = {"panel_port": 0, "expected_nodes": "vega_driver,learner", **parameters}
        self.panel = ros.add(PanelNode, given)
        self.probe = ros.probe("vega_driver")
        self.heard = []
        self.probe.create_subscription(
            OperatorEvent, "operator_event", self.heard.append, qos.reliable(100)
        )
        make = self.probe.create_publisher
        self.states = make(EpisodeState, "episode_state", qos.LATCHED)
        self.driver = make(DriverState, "driver_state", qos.reliable(10))
        self.learner = make(LearnerStatus, "learner_status", qos.LATCHED)
        self.loops = make(LoopStats, "loop_stats", qos.reliable(10))
        self.log = make(Log, "/rosout", qos.reliable(10))
        topics = (
            "operator_event",
            "episode_state",
            "driver_state",
            "learner_status",
            "loop_stats",
        )
        assert ros.connected(self.probe, *topics)

    def post(self, button):
        request = urllib.request.Request(f"{self.panel.url}/api/press/{button}", method="POST")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def view(self):
        return self.panel._state.view(self.panel._shown_s)

    def kinds(self):
        return [Press(e.kind).name for e in self.heard]


@pytest.fixture(scope="module")
def bench():
    """One for all: NiceGUI's application is one per process."""
    from resfit_ros.testing import graph

    with graph() as ros:
        yield Bench(ros)


def test_press_becomes_an_event_of_the_panel(bench):
    assert bench.post("SUCCESS") == {"taken": True}
    assert bench.ros.spin_until(lambda: "SUCCESS" in bench.kinds())
    (event,) = [e for e in bench.heard if e.kind == Press.SUCCESS]
    assert (event.source, event.header.stamp.sec) == ("panel", 0)  # lock-step: zero means now


def test_what_the_graph_says_is_shown(bench):
    bench.states.publish(
        EpisodeState(phase=EpisodeState.READY, episode=4, run_id="r", reason="waits for: recorder")
    )
    bench.learner.publish(LearnerStatus(state=2, updates=123, weights_version=7))
    bench.driver.publish(DriverState(mode=DriverState.HOLDING, reason="no command"))
    bench.loops.publish(
        LoopStats(
            node="vega_driver", stages=["observation_to_command"], p50_ms=[9.0], p99_ms=[12.0],
            max_ms=[15.0],
        )
    )  # fmt: skip
    bench.log.publish(Log(level=30, name="recorder", msg="slow disk"))
    spun = bench.ros.spin_until
    assert spun(lambda: bench.view().reason == "waits for: recorder")
    assert spun(lambda: "v7" in [t.value for t in bench.view().learner])
    assert spun(lambda: "no command" in [t.note for t in bench.view().control])
    assert spun(lambda: "9.0 ms" in [t.value for t in bench.view().control])
    assert spun(lambda: [m.text for m in bench.view().messages] == ["slow disk"])
    assert spun(lambda: dict(bench.view().nodes)["vega_driver"] == "ok")


def test_messages_without_sense_are_passed_over(bench):
    bench.states.publish(EpisodeState(phase=255, episode=8, reason="nonsense"))
    bench.states.publish(EpisodeState(phase=EpisodeState.ENDED, ended_by=255, episode=8))
    bench.loops.publish(LoopStats(node="vega_driver", stages=["one"], p50_ms=[1.0, 2.0]))
    bench.states.publish(EpisodeState(phase=EpisodeState.READY, episode=9, reason="sense"))
    assert bench.ros.spin_until(lambda: bench.view().reason == "sense")


def test_estop_is_repeated_until_the_driver_latched_and_rearmed_on_purpose(bench):
    bench.heard.clear()
    bench.post("ESTOP")
    assert bench.ros.spin_until(lambda: bench.kinds().count("ESTOP") >= 3)
    bench.driver.publish(DriverState(mode=DriverState.ESTOPPED, reason="e-stop"))
    assert bench.ros.spin_until(lambda: bench.panel._state.estop.latched)
    told = bench.kinds().count("ESTOP")
    bench.post("REARM")
    assert bench.ros.spin_until(lambda: "REARM" in bench.kinds())
    assert bench.kinds().count("ESTOP") <= told + 1  # one may have been under way
    bench.driver.publish(DriverState(mode=DriverState.ACTIVE))
    assert bench.ros.spin_until(lambda: bench.view().estop == "ready")


def test_estop_of_another_device_is_repeated_too(bench):
    bench.heard.clear()
    events = bench.probe.create_publisher(OperatorEvent, "operator_event", qos.reliable(10))
    assert bench.ros.spin_until(lambda: events.get_subscription_count() >= 2)
    events.publish(OperatorEvent(kind=int(Press.ESTOP), source="keypad"))
    assert bench.ros.spin_until(lambda: "panel" in [e.source for e in bench.heard])
    events.publish(OperatorEvent(kind=int(Press.REARM), source="keypad"))
    assert bench.ros.spin_until(lambda: not bench.panel._state.estop.wanted)


def test_press_that_hung_on_its_way_is_dropped(bench):
    """A request given up by its page lay in a socket, and ended a later episode."""
    bench.heard.clear()
    with pytest.raises(urllib.error.HTTPError, match="409"):
        bench.post(f"FAILURE?at={time.monotonic() - 10:.2f}")
    bench.post(f"UNDO?at={time.monotonic():.2f}")
    assert bench.ros.spin_until(lambda: "UNDO" in bench.kinds())
    assert "FAILURE" not in bench.kinds()


def test_page_holds_nothing_from_another_host(bench):
    """The page must work where there is no network but the robot's."""
    with urllib.request.urlopen(bench.panel.url, timeout=20) as answer:
        page = answer.read().decode()
    assert "E-STOP" in page or "panel.js" in page
    for mark in ("https://", "//cdn", "//fonts"):
        assert f'src="{mark}' not in page
        assert f'href="{mark}' not in page
