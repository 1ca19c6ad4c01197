"""Node `reward_button`: keyboard, gamepad, keypad, topic and oracle press the same button."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, NoReturn

from sensor_msgs.msg import Joy

from resfit_core.control.press import HUMAN, ORACLE, OperatorEvent, Press
from resfit_core.control.records import Phase
from resfit_interfaces import msg as ours
from resfit_reward.inputs import Gamepad, Inputs, press_of
from resfit_reward.keyboard import Keyboard
from resfit_reward.linux_keys import Keypad
from resfit_ros import conversions, qos
from resfit_ros.dds import use_profile
from resfit_ros.node import Node, run_process
from resfit_ros.parameters import declare

KEYBOARD, TOPIC = HUMAN[:2]
GAMEPAD, KEYPAD = "gamepad", "keypad"


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
        mapping = declare(self, "mapping", "", "YAML of what keys mean; empty: the defaults")
        keypad = declare(
            self, "keypad", "", "input device of a USB pedal or keypad, /dev/input/…; empty: none"
        )
        self._inputs = Inputs.load(mapping) if mapping else Inputs()
        self._gamepad = Gamepad(self._inputs.gamepad)
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
        self.create_subscription(Joy, "joy", self._on_joy, qos.sensor("realtime"))
        self._keypad: Keypad | None = None
        if keypad:
            self._keypad = Keypad(
                keypad,
                lambda key, ns: self.call_soon(lambda: self._on_keypad(key, ns)),
                lambda why: self.call_soon(lambda: self.get_logger().error(why)),
            )
        self._keyboard: Keyboard | None = None
        if wanted:
            self._keyboard = Keyboard(
                sys.stdin.fileno(), lambda key: self.call_soon(lambda: self._on_key(key))
            )

    def start(self) -> None:
        """Take the keyboard, once the executor is there."""
        if self._keypad is not None:
            self._keypad.start()
        if self._keyboard is not None:
            why_not = self._keyboard.start()
            keys = f"keys: {self._inputs.help()}"
            self.get_logger().info(f"no keyboard: {why_not}" if why_not else keys)

    def stop(self) -> None:
        """Give the terminal and the keypad back."""
        if self._keypad is not None:
            self._keypad.stop()
        if self._keyboard is not None:
            self._keyboard.stop()

    def _on_state(self, msg: ours.EpisodeState) -> None:
        self._idle = msg.phase in (Phase.IDLE, Phase.PAUSED)

    def _on_key(self, key: str) -> None:
        meaning = self._inputs.keyboard.get(key) or self._inputs.keyboard.get(key.lower())
        if meaning is not None:
            self._mean(meaning, KEYBOARD)
        elif key.isprintable() and not key.isspace():
            self.get_logger().info(f"'{key}' means nothing; keys: {self._inputs.help()}")

    def _on_joy(self, msg: Joy) -> None:
        for meaning in self._gamepad.pressed(msg.buttons):
            self._mean(meaning, GAMEPAD, conversions.stamp_from_msg(msg.header.stamp))

    def _on_keypad(self, key: str, stamp_ns: int) -> None:
        meaning = self._inputs.keypad.get(key)
        if meaning is not None:
            self._mean(meaning, KEYPAD, stamp_ns)
        else:
            self.get_logger().info(f"keypad: {key} means nothing")

    def _mean(self, meaning: str, source: str, stamp_ns: int = 0) -> None:
        kind = press_of(meaning, self._idle)
        self.get_logger().info(f"pressed: {kind.name}")
        # A device's own stamp is the moment of the press; in lock-step time is the twin's.
        self._press(OperatorEvent(kind, source, stamp_ns=0 if self._lockstep else stamp_ns))

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
    use_profile("safe")
    run_process(RewardButtonNode)


if __name__ == "__main__":
    main()
