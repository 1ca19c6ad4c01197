"""Size and speed of importing and exporting episodes.

    make bench-formats                                  20 episodes of 100 steps, two cameras
    make bench-formats ARGS="--episodes 5 --steps 50"

Episodes are made here: a picture with a moving square and sensor noise, random numbers. They are
written as bags, exported to a LeRobotDataset v3, imported again, and imported from a robomimic
file. Read `steps/s` with the machine's load in mind. The last line is `formats: key=value ...`;
all goes to benchmarks/results/formats.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from resfit_core import machine
from resfit_core.contract import Contract, load_contract
from resfit_core.data.bags import list_episodes
from resfit_core.formats import lerobot_export
from resfit_core.formats.bag_writing import write_trajectory
from resfit_core.formats.lerobot_import import LeRobotReader
from resfit_core.formats.robomimic import RobomimicReader
from resfit_core.formats.trajectory import Column, FieldMap, Trajectory

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks/results/formats.json"


def make(contract: Contract, steps: int, rng: np.random.Generator) -> Trajectory:
    """Return an episode of `steps` steps."""
    rows, size = steps + 1, contract.image_size
    observation = rng.standard_normal((rows, contract.obs_dim)).astype(np.float32)
    action = rng.uniform(contract.lower, contract.upper, (steps, contract.action_dim))
    images = []
    for _ in contract.images:
        frames = np.zeros((rows, size, size, 3), np.uint8)
        frames[...] = np.linspace(40, 160, size, dtype=np.uint8)[:, None]
        for index in range(rows):
            place = (2 * index) % (size - 16)
            frames[index, place : place + 16, 30:46] = (220, 60, 40)
        images.append(frames + rng.integers(0, 6, frames.shape, dtype=np.uint8))
    return Trajectory(observation, action, tuple(images), True, "benchmark")


def size_mb(path: Path) -> float:
    """Return what lies below [MB]."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files) / 1e6


def write_robomimic(path: Path, made: list[Trajectory]) -> None:
    """Write the same episodes as a robomimic file."""
    with h5py.File(path, "w") as file:
        for number, one in enumerate(made):
            demo = file.create_group(f"data/demo_{number}")
            demo["actions"] = one.action_rad
            for name, rows in (("obs", slice(0, -1)), ("next_obs", slice(1, None))):
                demo[f"{name}/q"] = one.observation[rows]
                for camera, images in enumerate(one.images):
                    demo[f"{name}/eye{camera}"] = images[rows]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    contract = load_contract(
        ROOT / "config/robot/vega_1.yaml", ROOT / "config/task/woolly_ball_pnp.yaml", "pixels"
    )
    rng = np.random.default_rng(0)
    made = [make(contract, args.steps, rng) for _ in range(args.episodes)]
    raw = sum(t.observation.nbytes + t.action_rad.nbytes for t in made)
    raw += sum(image.nbytes for t in made for image in t.images)
    rows: dict[str, dict[str, float]] = {}

    def timed(name: str, out: Path, work: Callable[[], None]) -> None:
        begin = time.perf_counter()
        work()
        seconds = time.perf_counter() - begin
        rows[name] = {
            "mb": round(size_mb(out), 2),
            "of_raw": round(size_mb(out) * 1e6 / raw, 3),
            "seconds": round(seconds, 2),
            "steps_per_s": round(args.episodes * args.steps / seconds, 1),
        }

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def write(out: Path, trajectories: object) -> None:
            for number, one in enumerate(trajectories, 1):  # type: ignore[arg-type]
                write_trajectory(out, number, one, contract)

        timed("write bags", folder / "bags", lambda: write(folder / "bags", made))
        paths = list_episodes(folder / "bags")
        lerobot = folder / "lerobot"
        timed(
            "export LeRobot v3", lerobot, lambda: lerobot_export.export(paths, contract, lerobot)
        )
        again = folder / "again"
        timed("import LeRobot v3", again, lambda: write(again, LeRobotReader(lerobot, contract)))
        file = folder / "demos.hdf5"
        write_robomimic(file, made)
        eyes = {camera: f"eye{n}" for n, camera in enumerate(contract.images)}
        mapping = FieldMap(Column("actions"), {"joint_position": Column("q")}, eyes)
        out = folder / "robomimic"
        timed(
            "import robomimic", out, lambda: write(out, RobomimicReader(file, contract, mapping))
        )
    load = os.getloadavg()[0]
    print(f"{args.episodes} episodes of {args.steps} steps, two cameras; load {load:.1f}")
    print(f"{'':20}{'MB':>8}{'of raw':>8}{'s':>8}{'steps/s':>9}")
    for word, row in rows.items():
        print(f"{word:20}{row['mb']:8.2f}{row['of_raw']:8.3f}{row['seconds']:8.2f}"
              f"{row['steps_per_s']:9.0f}")  # fmt: skip
    result = {
        "machine": machine.versions(),
        "load": round(load, 1),
        "sizes": {"episodes": args.episodes, "steps": args.steps, "raw_mb": raw / 1e6},
        "rows": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    export, back = rows["export LeRobot v3"], rows["import LeRobot v3"]
    print(
        f"formats: raw_mb={raw / 1e6:.1f} lerobot_mb={export['mb']} "
        f"export_steps_per_s={export['steps_per_s']} import_steps_per_s={back['steps_per_s']} "
        f"robomimic_steps_per_s={rows['import robomimic']['steps_per_s']}"
    )


if __name__ == "__main__":
    main()
