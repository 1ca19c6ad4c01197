"""Node `success_classifier`: watches the pictures and presses success when it is sure."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import torch
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from resfit_core.classifier.net import load
from resfit_core.classifier.watch import SuccessWatch, Word
from resfit_core.control.press import CLASSIFIER, OperatorEvent, Press
from resfit_core.control.records import Phase
from resfit_interfaces import msg as ours
from resfit_ros import conversions, qos
from resfit_ros.contract import contract_from_parameters
from resfit_ros.node import Node, run_process
from resfit_ros.parameters import ParameterError, declare

_SURE, _ASKS = DiagnosticStatus.OK, DiagnosticStatus.WARN


class SuccessClassifierNode(Node):
    """Looks at what `base_policy` saw, the very pictures that are recorded.

    Sure: one `operator_event` SUCCESS, stamped with the picture. Unsure: it asks on
    `success_guess`, which the panel shows; the person's button decides. It never presses failure.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Load the net; refuse in words what does not fit."""
        super().__init__("success_classifier", **kwargs)
        # More threads than one would take the control loop's cores.
        torch.set_num_threads(1)
        contract = contract_from_parameters(self)
        path = declare(self, "classifier", "", "file of 'resfit train-classifier'; required")
        if not path:
            raise ParameterError("parameter 'classifier' is empty; give its file")
        self._classifier = load(Path(path), contract)
        self._cameras = contract.images
        self._watch = SuccessWatch(self._classifier.thresholds)
        self._running = self._seen = 0
        self._asked = False
        self._events = self.create_publisher(
            ours.OperatorEvent, "operator_event", qos.reliable(100)
        )
        self._guesses = self.create_publisher(DiagnosticStatus, "success_guess", qos.reliable(10))
        self.create_subscription(
            ours.EpisodeState, "episode_state", self._on_state, qos.LATCHED_IN
        )
        self.create_subscription(
            ours.PolicyStep, "policy_step", self.pass_over("policy_step", self._on_step),
            qos.reliable(10),
        )  # fmt: skip

    def _on_state(self, msg: ours.EpisodeState) -> None:
        if msg.phase == Phase.RUNNING and msg.episode != self._running:
            self._running = msg.episode
            self._watch.begin()
        elif msg.phase != Phase.RUNNING and msg.episode == self._running:
            self._running = 0
            self._ask(False, msg.episode, 0, 0.0)

    def _on_step(self, msg: ours.PolicyStep) -> None:
        stamp_ns = conversions.stamp_from_msg(msg.header.stamp)
        if msg.episode != self._running or stamp_ns <= self._seen:
            return
        self._seen = stamp_ns
        images = {
            name: conversions.image_from_msg(image)
            for name, image in zip(self._cameras, msg.images, strict=False)
        }
        probability = self._classifier.look(images)
        word = self._watch.look(probability)
        if word == Word.PRESS:
            reason = f"success by {CLASSIFIER} ({probability:.0%} sure)"
            event = OperatorEvent(Press.SUCCESS, CLASSIFIER, reason, stamp_ns, msg.episode)
            self._events.publish(conversions.event_to_msg(event))
            self.get_logger().info(f"episode {msg.episode}, step {msg.step}: {reason}")
        self._ask(word == Word.ASK, msg.episode, msg.step, probability)

    def _ask(self, asks: bool, episode: int, step: int, probability: float) -> None:
        """Ask the operator, or take the question back; said only where it changes."""
        if asks == self._asked:
            return
        self._asked = asks
        text = f"thinks success ({probability:.0%} sure at step {step}): confirm it or go on"
        values = {"episode": episode, "step": step, "probability": f"{probability:.3f}"}
        self._guesses.publish(
            DiagnosticStatus(
                level=_ASKS if asks else _SURE,
                name=self.get_name(),
                message=text if asks else "",
                values=[KeyValue(key=k, value=str(v)) for k, v in values.items()],
            )
        )


def main() -> NoReturn:
    """Run the node."""
    run_process(SuccessClassifierNode)


if __name__ == "__main__":
    main()
