"""By how much a base with keypoints misses the hands' places on recorded demonstrations.

    make bench-places ARGS="--base base_pixels.safetensors --demos runs/demos_pixels --skip 60"

Root mean square per axis [mm] at some steps of the episodes behind the first `--skip`, those that
the base was trained on. The last line is `places: key=value ...`: the largest miss of the things
that the hands take, in the first image and at `--late`. Figures go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from resfit_core.base.checkpoint import load_base
from resfit_core.base.places import PER_HAND, hand_places
from resfit_core.contract import load_contract
from resfit_core.data.bag_reader import read_episode
from resfit_core.data.bags import list_episodes

ROOT = Path(__file__).resolve().parents[1]
STEPS = (0, 10, 20, 30, 40)


def misses(base: str, demos: Path, task: str, skip: int) -> dict[int, np.ndarray]:
    """Return step to the root mean square per place and axis [m]. Shape: (places, 3) each."""
    contract = load_contract(
        ROOT / "config/robot/vega_1.yaml", ROOT / f"config/task/{task}.yaml", "pixels"
    )
    loaded = load_base(base, contract)
    if loaded.locate is None:
        sys.exit(f"places: {base} has no keypoints; train one with 'make base' on images")
    missed = []
    for path in list_episodes(demos)[skip:]:
        demo = read_episode(path)
        if demo.verdict.success:
            joints = demo.observation[:, contract.layout["joint_position"]]
            told = hand_places(contract, joints, demo.action_rad)[list(STEPS)]
            found = loaded.locate(np.stack(demo.images, axis=1)[list(STEPS)])
            missed.append(found - told)
    if not missed:
        sys.exit(f"places: no success behind the first {skip} of '{demos}'; lower --skip")
    return dict(zip(STEPS, np.sqrt(np.square(missed).mean(0)), strict=True))


def main() -> None:
    """Print the table and write the JSON."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--base", required=True)
    parse.add_argument("--demos", type=Path, required=True, help="folder of bags with images")
    parse.add_argument("--task", default="woolly_ball_pnp")
    parse.add_argument("--skip", type=int, default=0, help="episodes that it was trained on")
    parse.add_argument("--late", type=int, default=40, choices=STEPS)
    args = parse.parse_args()
    rows = misses(args.base, args.demos, args.task, args.skip)
    table = {str(step): np.round(1000 * row, 1).tolist() for step, row in rows.items()}
    print("step  place by place, rms of x y z [mm]")
    for step, row in table.items():
        print(f"{step:>4}  " + "  ".join(" ".join(f"{v:6.1f}" for v in place) for place in row))
    result = {"task": args.task, "skip": args.skip, "rms_mm": table}
    out = ROOT / "benchmarks" / "results" / "places.json"
    out.write_text(json.dumps(result, indent=1) + "\n")
    first, late = (float(1000 * rows[step][::PER_HAND].max()) for step in (0, args.late))
    print(f"places: first_mm={first:.1f} late_mm={late:.1f}")


if __name__ == "__main__":
    main()
