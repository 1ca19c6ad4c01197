"""Which cameras the panel hears: those that somebody watches, or that a blind round needs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sensor_msgs.msg import Image

from resfit_reward.panel.cameras import Cameras, Picture
from resfit_reward.panel.ghost import Ghost
from resfit_ros import conversions, qos
from resfit_ros.node import Node


class PanelPictures:
    """Subscribes while pictures are wanted, and to no others: full images are heavy.

    Attributes:
        ghost: First pictures of a blind round.
        watching: Cameras subscribed to now.
    """

    def __init__(
        self, node: Node, topics: Mapping[str, str], rate_hz: float, run_dir: str
    ) -> None:
        """Subscribe to nothing yet.

        Args:
            node: Owns the subscriptions.
            topics: Image topic of each camera.
            rate_hz: Pictures per camera shown [1/s].
            run_dir: Where a blind round's pictures are stored; empty: nowhere.
        """
        self._node, self._topics = node, dict(topics)
        self._cameras = Cameras(self._topics, rate_hz)
        self.ghost = Ghost(Path(run_dir), self._topics if run_dir else ())
        self.watching: dict[str, Any] = {}

    @property
    def sent(self) -> list[str]:
        """Cameras that somebody publishes."""
        return [n for n, topic in self._topics.items() if self._node.count_publishers(topic)]

    def newest(self, camera: str) -> Picture | None:
        """Return the newest picture and remember that somebody watches. From any thread.

        Raises:
            KeyError: There is no such camera.
        """
        return self._cameras.ask(camera, time.monotonic())

    def follow(self, now_s: float) -> None:
        """Subscribe to what is wanted now, and to nothing else."""
        wanted = self._cameras.watched(now_s) | self.ghost.wanted
        for name in wanted - set(self.watching):
            self.watching[name] = self._node.create_subscription(
                Image, self._topics[name],
                self._node.pass_over(name, lambda msg, name=name: self._on_image(name, msg)),
                qos.sensor("realtime", 1),
            )  # fmt: skip
        for name in set(self.watching) - wanted:
            self._node.destroy_subscription(self.watching.pop(name))

    def _on_image(self, camera: str, msg: Image) -> None:
        now_s = time.monotonic()
        due, wanted = self._cameras.due(camera, now_s), camera in self.ghost.wanted
        if not due and not wanted:
            return
        image = conversions.image_from_msg(msg)
        if due:
            self._cameras.put(camera, image, now_s)
        if wanted:
            self.ghost.image(camera, image, now_s)
