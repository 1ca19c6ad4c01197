"""Film the expert: `python -m resfit_sim.record_video --seed 1000000 --out episode.mp4`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import imageio.v2 as imageio
import numpy as np

from resfit_sim.errors import SimError
from resfit_sim.expert import make_expert
from resfit_sim.tasks import TASKS
from resfit_sim.twin import Twin

_AFTERGLOW_STEPS = 10  # steps filmed after success


def record(task: str, seed: int, out: Path, camera: str, width: int, height: int) -> bool:
    """Write one expert episode as a video at 20 frames per second and return its success."""
    twin = Twin(task)
    expert = make_expert(task, twin.model)
    twin.reset(seed)
    sensors = twin.sensors()
    expert.reset(sensors.object_poses, sensors.joint_position, np.random.default_rng([seed, 1]))
    done_at = None
    with imageio.get_writer(out, fps=20, macro_block_size=None, quality=8) as writer:
        for step in range(twin.task.horizon_steps):
            writer.append_data(twin.render(camera, width, height))
            twin.step(expert.act(step, twin.sensors().object_poses))
            if done_at is None and twin.success:
                done_at = step
            if done_at is not None and step >= done_at + _AFTERGLOW_STEPS:
                break
    twin.close()
    return done_at is not None


def main() -> None:
    """Parse arguments and film; prints the outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="woolly_ball_pnp", choices=sorted(TASKS))
    parser.add_argument("--seed", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, required=True, help="an .mp4 or .gif file")
    parser.add_argument("--camera", default="scene", choices=("scene", "left", "right"))
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=360)
    given = parser.parse_args()
    try:
        success = record(
            given.task, given.seed, given.out, given.camera, given.width, given.height
        )
    except SimError as error:
        sys.exit(f"record_video: {error}")
    print(f"{given.out}: seed {given.seed}, {'success' if success else 'no success'}")


if __name__ == "__main__":
    main()
