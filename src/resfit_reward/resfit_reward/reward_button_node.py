"""Node `reward_button`: keyboard, topic and oracle all press the same button."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, NoReturn

from resfit_core.control.press import HUMAN, ORACLE, OperatorEvent, Press
from resfit_core.control.records import Phase
from resfit_interfaces import msg as ours
from resfit_reward.keyboard import Keyboard
from resfit_ros import conversions, qos
from resfit_ros.node import Node, run_process
from resfit_ros.parameters import declare

KEYBOARD, TOPIC = HUMAN[:2]
KEYS = {
    "s": Press.SUCCESS,
    "f": Press.FAILURE,
    "a": Press.ABORT,
    "u": Press.UNDO,
    "p": Press.PAUSE,
    "r": Press.RESET_DONE,
    "q": Press.STOP,
}
HELP = "s success, f failure, a abort, u undo, p pause, r reset done or start, q stop"


class RewardButtonNode(Node):
    """Forwards every press as `operator_event`, stamped with the moment it was made."""

    def __init__(self, **kwargs: Any) -> None:
        """Open the inputs."""
        super().__init__("reward_button", **kwargs)
        wanted = declare(self, "keyboard", True, "keys of this terminal press the button")
        clock = declare(
            self, "clock", "lockstep", "lockstep: stamps are the twin's; realtime: this clock's",
            choices=("lockstep", "realtime"),
        )  # fmt: skip
        self._lockstep = clock == "lockstep"
        self._idle = False
        self._events = self.create_publisher(
            ours.OperatorEvent, "operator_event", qos.reliable(100)
        )
        self.create_subscription(
            ours.EpisodeState, "episode_state", self._on_state, qos.LATCHED_IN
        )
        for topic, source in (("button", TOPIC), ("oracle", ORACLE)):
            self.create_subscription(
                ours.OperatorEvent,
                topic,
                lambda msg, source=source: self._forward(msg, source),
                qos.reliable(10),
            )
        self._keyboard: Keyboard | None = None
        if wanted:
            self._keyboard = Keyboard(
                sys.stdin.fileno(), lambda key: self.call_soon(lambda: self._on_key(key))
            )

    def start(self) -> None:
        """Take the keyboard, once the executor is there."""
        if self._keyboard is not None:
            why_not = self._keyboard.start()
            self.get_logger().info(f"no keyboard: {why_not}" if why_not else f"keys: {HELP}")

    def stop(self) -> None:
        """Give the terminal back."""
        if self._keyboard is not None:
            self._keyboard.stop()

    def _on_state(self, msg: ours.EpisodeState) -> None:
        self._idle = msg.phase in (Phase.IDLE, Phase.PAUSED)

    def _on_key(self, key: str) -> None:
        kind = KEYS.get(key.lower())
        if kind is None:
            if key.isprintable() and not key.isspace():
                self.get_logger().info(f"'{key}' means nothing; keys: {HELP}")
            return
        if kind == Press.RESET_DONE and self._idle:
            kind = Press.START
        self.get_logger().info(f"pressed: {kind.name}")
        self._press(OperatorEvent(kind, KEYBOARD))

    def _forward(self, msg: ours.OperatorEvent, source: str) -> None:
        event = conversions.event_from_msg(msg)
        if event.kind not in set(Press):
            kinds = ", ".join(f"{p.value} {p.name}" for p in Press)
            self.get_logger().warning(f"press of kind {event.kind} dropped; known: {kinds}")
            return
        self._press(dataclasses.replace(event, source=source))

    def _press(self, event: OperatorEvent) -> None:
        # In lock-step only the episode manager knows what time it is on the twin: zero means now.
        if not event.stamp_ns and not self._lockstep:
            now_ns = self.get_clock().now().nanoseconds
            event = dataclasses.replace(event, stamp_ns=now_ns)
        self._events.publish(conversions.event_to_msg(event))


def main() -> NoReturn:
    """Run the node."""
    run_process(RewardButtonNode)


if __name__ == "__main__":
    main()
