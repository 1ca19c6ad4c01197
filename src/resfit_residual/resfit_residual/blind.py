"""What `residual_policy` holds in a blind evaluation: the only node that knows who acts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from rclpy.node import Node

from resfit_core.blind.mask import Mask
from resfit_core.blind.rounds import StopRule
from resfit_core.blind.seal import read_sealed
from resfit_core.blind.sealed_policy import SealedPolicy, SealedTick, load_policies
from resfit_core.control.episode_log import LOG
from resfit_core.control.press import OperatorEvent, Press
from resfit_core.control.records import EpisodeState
from resfit_core.control.residual_tick import Residual
from resfit_core.run_log import read_episodes
from resfit_interfaces import msg as ours
from resfit_ros import conversions, qos

ENOUGH = "enough rounds were run to tell the policies apart"


class Blind:
    """The opened seal, for one node's eyes.

    Attributes:
        tick: Decides who acts.
    """

    def __init__(
        self,
        node: Node,
        seal: Path,
        run_dir: Path,
        make: Callable[[], Residual],
        observes_last_action: bool,
        stop_early: bool,
    ) -> None:
        """Read the seal and load the competitors; say the commitment.

        Args:
            node: Speaks for it.
            seal: Folder of the seal.
            run_dir: Folder of the evaluation.
            make: Makes a policy without weights.
            observes_last_action: As in `ResidualTick`.
            stop_early: End the run when enough rounds were run, instead of saying so.

        Raises:
            SealError, WeightsError: Seal or competitors are missing, damaged or do not fit.
        """
        opening = read_sealed(seal)
        self._mask = Mask(bytes.fromhex(opening.mask))
        self._rule = StopRule(opening, read_episodes(run_dir / LOG))
        competitors = SealedPolicy(opening, load_policies(run_dir, opening, make))
        self.tick = SealedTick(competitors, observes_last_action)
        self._node, self._stop_early = node, stop_early
        self._events_out = node.create_publisher(
            ours.OperatorEvent, "operator_event", qos.reliable(100)
        )
        node.get_logger().info(opening.commitment.said)

    def close(self) -> None:
        """Take the publisher down."""
        self._node.destroy_publisher(self._events_out)

    def hear(self, state: EpisodeState) -> None:
        """Take a state; say when enough rounds were run, and nothing of who won."""
        if not self._rule.hear(state):
            return
        if self._stop_early:
            stop = OperatorEvent(Press.STOP, self._node.get_name(), ENOUGH)
            self._events_out.publish(conversions.event_to_msg(stop))
        else:
            self._node.get_logger().warning(f"{ENOUGH}: STOP ends the evaluation, or go on")

    def base_action(self, msg: ours.PolicyStep) -> np.ndarray:
        """Return the base's action of a tick with the mask taken off."""
        stamp_ns = conversions.stamp_from_msg(msg.header.stamp)
        return self._mask.show(bytes(msg.base_action_sealed), stamp_ns, msg.episode, msg.step)
