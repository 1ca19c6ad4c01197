"""Node `panel`: the operator's web page; translates between topics and `PanelState`."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import Log
from rclpy.clock import Clock, ClockType

from resfit_core.contract import load_contract
from resfit_core.control.episode_log import LOG
from resfit_core.control.press import OperatorEvent, Press
from resfit_core.run_log import read_episodes
from resfit_interfaces import msg as ours
from resfit_reward.panel.cameras import Picture
from resfit_reward.panel.health import Driver, Learner
from resfit_reward.panel.loop import Loop
from resfit_reward.panel.state import PanelState
from resfit_reward.panel_pictures import PanelPictures
from resfit_ros import conversions, qos
from resfit_ros.contract import declare_contract
from resfit_ros.node import Node, run_process
from resfit_ros.parameters import ParameterError, declare

PANEL = "panel"
TOKEN = "RESFIT_PANEL_TOKEN"
"""Environment variable: token for other machines. A parameter would end in the run's files."""
NODES = (
    "twin,vega_driver,base_policy,residual_policy,recorder,learner,reward_button,episode_manager"
)
_TICK_S, _SHOW_S, _LOOK_S = 0.05, 0.25, 1.0
_DRIVER = ("mode", "reason", "commands", "altered", "refused", "holds", "command_age_s")
_LEARNER = tuple(Learner.__dataclass_fields__)


class PanelNode(Node):
    """Hears the graph and shows it; every button becomes one `operator_event`.

    The page runs on a thread of its own; what crosses over are whole views one way and presses
    the other way. Nothing on the control path waits for this process.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Read what there is to show; the page opens in `start`."""
        super().__init__(PANEL, **kwargs)
        self._host = declare(
            self, "panel_host", "127.0.0.1", "address to listen on; 0.0.0.0: all, with a token"
        )
        self._port = declare(
            self, "panel_port", 8080, "port of the page; taken: the next free of ten; 0: any",
            range=(0, 65535),
        )  # fmt: skip
        rate_hz = declare(
            self, "camera_rate_hz", 5.0, "pictures per camera shown [1/s]", range=(0.1, 30.0)
        )
        clock = declare(
            self, "clock", "lockstep", "lockstep: stamps are the twin's; realtime: this clock's",
            choices=("lockstep", "realtime"),
        )  # fmt: skip
        run_dir = declare(self, "run_dir", "", "folder of the run, for what happened; empty: none")
        nodes = declare(self, "expected_nodes", NODES, "names of the run's nodes, by commas")
        robot, task, variant = declare_contract(self)
        self._lockstep = clock == "lockstep"
        topics = {}
        if robot and task:
            contract = load_contract(robot, task, variant)
            topics = {c.name: c.topic for c in contract.cameras}
        self._pictures = PanelPictures(self, topics, rate_hz, run_dir)
        expected = [n.strip() for n in nodes.split(",") if n.strip()]
        self._state = PanelState(expected, time.monotonic())
        if run_dir:
            self._state.log_lines(read_episodes(Path(run_dir) / LOG))
        self._shown_s = self._looked_s = float("-inf")
        self._server: Any = None
        self.url = ""
        self._open()

    def _open(self) -> None:
        self._events = self.create_publisher(
            ours.OperatorEvent, "operator_event", qos.reliable(100)
        )
        for kind, topic, callback, profile in (
            (ours.EpisodeState, "episode_state", self._on_state, qos.LATCHED_IN),
            (ours.LearnerStatus, "learner_status", self._on_learner, qos.LATCHED_IN),
            (ours.DriverState, "driver_state", self._on_driver, qos.reliable(10)),
            (ours.EpisodeRecorded, "episode_recorded", self._on_recorded, qos.reliable(100)),
            (ours.OperatorEvent, "operator_event", self._on_event, qos.reliable(100)),
            (ours.LoopStats, "loop_stats", self._on_loop, qos.reliable(10)),
            (DiagnosticStatus, "success_guess", self._on_guess, qos.reliable(10)),
            (Log, "/rosout", self._on_log, qos.reliable(100)),
        ):
            self.create_subscription(kind, topic, self.pass_over(topic, callback), profile)
        # The e-stop is told again by this clock, which no simulation stops.
        self.create_timer(_TICK_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def start(self) -> None:
        """Open the page.

        Raises:
            ParameterError: NiceGUI is not installed, or the address cannot be listened on.
        """
        try:
            from resfit_reward.panel.server import PanelServer
        except ImportError as error:
            raise ParameterError(
                f"the panel's page needs NiceGUI ({error}): "
                "pip install -r requirements/panel.txt, or run with panel:=false"
            ) from error
        self._server = PanelServer(self, self._host, self._port, os.environ.get(TOKEN, ""))
        self.url = self._server.start()
        self.get_logger().info(f"panel: {self.url}")

    def stop(self) -> None:
        """Close the page."""
        if self._server is not None:
            self._server.stop()

    # --- what the page asks, on its thread -----------------------------------------------------

    def press(self, button: str) -> None:
        """Take a press of the page; it is stamped here.

        Raises:
            ValueError: There is no such button.
        """
        kind = self._state.meaning(button)
        now_ns = 0 if self._lockstep else self.get_clock().now().nanoseconds
        if kind == Press.REARM:  # not from here: a repeated ESTOP must not come after it
            self.call_soon(self._rearm)
            return
        # Said from here: the way over the node's thread costs milliseconds on a busy machine.
        self._publish(OperatorEvent(kind, PANEL, stamp_ns=now_ns))
        if kind == Press.ESTOP:
            self.call_soon(self._keep_stopping)

    def picture(self, camera: str) -> Picture | None:
        """Return the newest picture of a camera, and remember that somebody watches.

        Raises:
            KeyError: There is no such camera.
        """
        return self._pictures.newest(camera)

    def ghost(self, camera: str) -> bytes | None:
        """Return a blind round's first picture as PNG; None: there is none."""
        return self._pictures.ghost.picture(camera)

    # --- presses -------------------------------------------------------------------------------

    def _keep_stopping(self) -> None:
        """Say ESTOP again until the driver has it."""
        self._state.estop.press(PANEL, time.monotonic())
        self._tick()

    def _rearm(self) -> None:
        self._state.estop.rearm()
        self._publish(OperatorEvent(Press.REARM, PANEL))

    def _publish(self, event: OperatorEvent) -> None:
        self.get_logger().info(f"pressed: {Press(event.kind).name}")
        self._events.publish(conversions.event_to_msg(event))

    # --- what the graph says -------------------------------------------------------------------

    def _on_state(self, msg: ours.EpisodeState) -> None:
        state, now_s = conversions.episode_state_from_msg(msg), time.monotonic()
        self._state.episode(state, now_s)
        self._pictures.ghost.state(state, now_s)
        self._show()

    def _on_driver(self, msg: ours.DriverState) -> None:
        news = Driver(**{name: getattr(msg, name) for name in _DRIVER})
        before = self._state.estop.latched
        self._state.driver(news, time.monotonic())
        if self._state.estop.latched != before:
            self._show()

    def _on_learner(self, msg: ours.LearnerStatus) -> None:
        news = Learner(**{name: getattr(msg, name) for name in _LEARNER})
        self._state.learner(news, time.monotonic())

    def _on_recorded(self, msg: ours.EpisodeRecorded) -> None:
        self._state.recorded(msg.dropped, "" if msg.complete else msg.reason)

    def _on_event(self, msg: ours.OperatorEvent) -> None:
        event, now_s = conversions.event_from_msg(msg), time.monotonic()
        if event.kind not in set(Press):
            return
        if event.source != PANEL and event.kind == Press.ESTOP:
            self._state.estop.press(event.source, now_s)
        elif event.source != PANEL and event.kind == Press.REARM:
            self._state.estop.rearm()
        self._state.press(Press(event.kind), event.source, now_s)
        self._show()

    def _on_loop(self, msg: ours.LoopStats) -> None:
        self._state.loop(Loop.read(msg), time.monotonic())

    def _on_guess(self, msg: DiagnosticStatus) -> None:
        self._state.guess(msg.message)
        self._show()

    def _on_log(self, msg: Log) -> None:
        level = int.from_bytes(msg.level, "little") if isinstance(msg.level, bytes) else msg.level
        if level >= 30 and msg.name != PANEL:  # WARN and above
            self._state.message(msg.name, msg.msg, error=level >= 40)
            self._show()

    # --- what is done by the clock -------------------------------------------------------------

    def _tick(self) -> None:
        now_s = time.monotonic()
        if self._state.estop.due(now_s):
            self._publish(OperatorEvent(Press.ESTOP, PANEL, f"e-stop by {self._state.estop.by}"))
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            self._state.nodes(self.get_node_names())
            self._state.cameras(self._pictures.sent)
            if self._server is not None and not self._server.alive:
                self.fail(RuntimeError("the panel's page ended"))
        self._pictures.follow(now_s)
        if now_s - self._shown_s >= _SHOW_S:
            self._show()

    def _show(self) -> None:
        self._shown_s = time.monotonic()
        if self._server is not None:
            view = self._state.view(self._shown_s)
            self._server.show(dataclasses.replace(view, ghosts=self._pictures.ghost.shown))


def main() -> NoReturn:
    """Run the node."""
    # Node and page share the interpreter: each gets it back sooner from the other (default 5 ms).
    sys.setswitchinterval(0.001)
    run_process(PanelNode)


if __name__ == "__main__":
    main()
