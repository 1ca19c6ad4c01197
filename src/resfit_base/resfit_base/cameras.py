"""Whether base_policy believes the cameras: whoever sends the images, it looks at them itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from resfit_base.sensors import JOINTS
from resfit_core.contract import Contract
from resfit_core.control.image_watch import ImageWatch, load_image_limits


class CameraWatch:
    """Hears the contract's image topics and the joints; all times of one steady clock [s]."""

    def __init__(self, contract: Contract, robot_file: str | Path) -> None:
        """Watch the cameras of the contract's images, by `<robot>.camera.yaml`."""
        self._names = {contract.camera(name).topic: name for name in contract.images}
        self._watch = ImageWatch(contract.images, load_image_limits(robot_file))
        self._pose = np.zeros(1)
        self._episode = 0

    def hear(self, topic: str, msg: Any, now_s: float) -> None:
        """Take a message of any sensor topic."""
        if topic in self._names:
            # A view: the message stays as it is and is compared with the next one.
            self._watch.seen(self._names[topic], np.frombuffer(msg.data, np.uint8), now_s)
        elif topic == JOINTS and self._names:
            self._pose = np.array(msg.position, np.float64)

    def fault(self, episode: int, now_s: float) -> str:
        """Return why the cameras are not to be believed, in words; empty: they are.

        Args:
            episode: Number of the open one. With a new one nobody is blamed for what was before.
            now_s: Time now [s].
        """
        if episode != self._episode:
            self._episode = episode
            self._watch.begin(now_s)
        return self._watch.fault(now_s, self._pose)
