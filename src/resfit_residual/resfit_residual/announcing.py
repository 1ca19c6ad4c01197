"""What the recorder says of an episode: closed with its steps, or not yet."""

from __future__ import annotations

import array
from pathlib import Path

from rclpy.node import Node

from resfit_core.data.closing import Closed
from resfit_interfaces import msg as ours
from resfit_ros import conversions, qos

_SAME = (
    "run_id", "episode", "revision", "bag_sha256", "steps", "dropped", "mode", "use_residual",
    "seed", "ended_by", "reward", "terminated", "truncated", "complete", "reason",
    "contract_sha256", "base_sha256",
)  # fmt: skip


class Announcer:
    """Publishes `episode_recorded` and, in pieces, `recorded_steps`."""

    def __init__(self, node: Node, run_dir: Path) -> None:
        """Make the publishers of `node`."""
        self._node, self._run_dir = node, run_dir
        self._recorded_out = node.create_publisher(
            ours.EpisodeRecorded, "episode_recorded", qos.reliable(100)
        )
        self._steps_out = node.create_publisher(
            ours.RecordedSteps, "recorded_steps", qos.reliable(100)
        )

    def announce(self, closed: Closed) -> None:
        """Send a closed episode's steps, then say that it is closed."""
        manifest, pieces = closed.manifest, closed.pieces()
        for number, piece in enumerate(pieces):
            self._steps_out.publish(
                ours.RecordedSteps(
                    header=conversions.header(self._now_ns()),
                    run_id=manifest.run_id,
                    episode=manifest.episode,
                    revision=manifest.revision,
                    piece=number,
                    pieces=len(pieces),
                    data=array.array("B", piece),
                    sha256=closed.sha256,
                )
            )
        self._recorded_out.publish(
            ours.EpisodeRecorded(
                header=conversions.header(self._now_ns()),
                uri=closed.uri,
                weights_version=closed.weights_version,
                **{name: getattr(manifest, name) for name in _SAME},
            )
        )

    def pending(self, episode: int, reason: str) -> None:
        """Tell the robot that an episode is not closed yet, and why: no new one starts."""
        self._node.get_logger().error(
            f"episode {episode} is not closed: {reason}", throttle_duration_sec=10.0
        )
        self._recorded_out.publish(
            ours.EpisodeRecorded(
                header=conversions.header(self._now_ns()),
                run_id=self._run_dir.resolve().name,
                episode=episode,
                pending=True,
                reason=reason,
            )
        )

    def _now_ns(self) -> int:
        return self._node.get_clock().now().nanoseconds
