"""Gymnasium environment over the twin; the same physics as the ROS node, without ROS."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np

from resfit_sim.joints import NUM_JOINTS
from resfit_sim.twin import Sensors, Twin

IMAGE_SIZE = 84


class VegaEnv(gymnasium.Env[Any, np.ndarray]):
    """One episode of a task; actions are joint targets in rad, one per control period.

    Observation `state`: float32 of shape (47,) = joint positions 29 [rad], left wrench 6, right
    wrench 6 [N, Nm], then xyz of each object [m]. Observation `pixels`: a dict of `image_left`
    and `image_right`, uint8 of shape (84, 84, 3), and `joint_position`, float32 of shape (29,).

    Reward 1 with `terminated` on success, else 0; `truncated` at the task's horizon.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  Gymnasium's own

    def __init__(
        self,
        task: str = "woolly_ball_pnp",
        observation: Literal["state", "pixels"] = "state",
        render_mode: str | None = None,
    ) -> None:
        """Build the twin and the spaces.

        Args:
            task: Name in the task registry.
            observation: `state` or `pixels`.
            render_mode: None or `rgb_array`.

        Raises:
            ValueError: If observation or render mode is unknown.
        """
        if observation not in ("state", "pixels"):
            raise ValueError(f"observation '{observation}' must be 'state' or 'pixels'")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode '{render_mode}' must be None or 'rgb_array'")
        self.render_mode = render_mode
        self.twin = Twin(task)
        self._pixels = observation == "pixels"
        self._steps = 0
        limits = self.twin.joint_range
        self.action_space = gymnasium.spaces.Box(limits[:, 0], limits[:, 1], dtype=np.float64)
        joints = gymnasium.spaces.Box(-np.inf, np.inf, (NUM_JOINTS,), np.float32)
        image = gymnasium.spaces.Box(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        size = NUM_JOINTS + 12 + 3 * len(self.twin.task.object_names)
        self.observation_space = (
            gymnasium.spaces.Dict(
                {"image_left": image, "image_right": image, "joint_position": joints}
            )
            if self._pixels
            else gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        )

    @property
    def horizon_steps(self) -> int:
        """Control steps until truncation."""
        return self.twin.task.horizon_steps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; the scene follows `seed` alone (drawn at random if None)."""
        super().reset(seed=seed)
        scene = int(self.np_random.integers(2**31)) if seed is None else seed
        self.twin.reset(scene)
        self._steps = 0
        return self._observe(), {"is_success": False, "seed": scene}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Run one control period; see the class for reward and endings.

        Raises:
            InvalidTarget: If the action has a wrong length or is not finite.
        """
        self.twin.step(action)
        self._steps += 1
        success = self.twin.success
        truncated = not success and self._steps >= self.horizon_steps
        return self._observe(), float(success), success, truncated, {"is_success": success}

    def sensors(self) -> Sensors:
        """Return the raw measurements, for callers that build their own observation."""
        return self.twin.sensors()

    def render(self) -> np.ndarray | None:
        """Return the scene camera's image, or None without `render_mode='rgb_array'`."""
        return self.twin.render("scene") if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Free the OpenGL context."""
        self.twin.close()

    def _observe(self) -> Any:
        sensors = self.twin.sensors()
        if self._pixels:
            return {
                "image_left": self.twin.render("left", IMAGE_SIZE, IMAGE_SIZE),
                "image_right": self.twin.render("right", IMAGE_SIZE, IMAGE_SIZE),
                "joint_position": sensors.joint_position.astype(np.float32),
            }
        return state_vector(sensors)


def state_vector(sensors: Sensors) -> np.ndarray:
    """Return the flat `state` observation. Shape: (41 + 3 n,), float32."""
    return np.concatenate(
        [
            sensors.joint_position,
            sensors.wrench_left,
            sensors.wrench_right,
            sensors.object_poses[:, :3].ravel(),
        ]
    ).astype(np.float32)
