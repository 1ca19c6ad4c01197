"""How long a batch of camera frames takes out of the replay, and what a transition weighs.

    make bench-replay
    make bench-replay ARGS="--rounds 200 --rows 10000"

A batch is 256 windows, half demonstrations, half online, two cameras of 84 x 84, observation and
next observation, with the vectors. Ours, with the compiled gather and with numpy's, takes turns in
one process with two straightforward layouts: an array per camera for the observation and one for
the next observation, in uint8 and in float32. All have the same allocator settings. Times are CPU
times of the process (one thread), as in bench-learner; wall time beside it tells how busy the
machine was. The floor is a copy of as many bytes that lie in one piece.

Bytes per transition are those of all arrays over the steps they hold when full of episodes of
`--episode-steps`: an episode takes one row more than it has steps.

The last line is `replay: ms= bytes=`; all goes to benchmarks/results/replay_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from learner_speed import cpu_model

from resfit_core import machine
from resfit_core.data.episode import DEMO, Episode
from resfit_core.data.mixed import MixedReplay
from resfit_core.data.replay import ReplayBuffer
from resfit_core.nets import native

RESULT = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "replay_speed.json"
OBS, ACT, BATCH, N_STEP, GAMMA = 53, 29, 256, 5, 0.99
CAMERAS = {"left": (84, 84, 3), "right": (84, 84, 3)}
FRAME_BYTES = 2 * 84 * 84 * 3


class Straightforward:
    """Transitions as most replay buffers hold them: each with its next observation."""

    def __init__(self, rows: int, dtype: type) -> None:
        """Fill both halves with noise."""
        rng = np.random.default_rng(0)
        self._rng = np.random.default_rng(1)
        self._halves = []
        for _ in range(2):
            arrays = {
                name: np.zeros((rows, size), np.float32)
                for when in ("", "next_")
                for name, size in ((f"{when}observation", OBS), (f"{when}base_action", ACT))
            }
            arrays |= {"action": np.zeros((rows, ACT), np.float32)}
            arrays |= {n: np.zeros(rows, np.float32) for n in ("reward", "discount")}
            for name in (f"{when}{camera}" for when in ("", "next_") for camera in CAMERAS):
                arrays[name] = np.empty((rows, 84, 84, 3), dtype)
                for begin in range(0, rows, 100):
                    block = arrays[name][begin : begin + 100]
                    block[...] = rng.integers(0, 256, block.shape, np.uint8)
            self._halves.append(arrays)
        self.bytes = sum(array.nbytes for array in arrays.values()) / rows

    def sample(self, size: int) -> dict[str, np.ndarray]:
        """Return a batch, half from either side."""
        parts = []
        for arrays in self._halves:
            index = self._rng.integers(0, len(arrays["reward"]), size // 2)
            parts.append({name: array[index] for name, array in arrays.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def make_ours(rows: int, episode_steps: int, *, kernel: bool) -> MixedReplay:
    """Return our replay, both halves full of noise."""
    rng = np.random.default_rng(0)
    rows -= rows % (episode_steps + 1)
    halves = [ReplayBuffer(OBS, ACT, rows, CAMERAS, native=kernel) for _ in range(2)]
    replay = MixedReplay(*halves, n_step=N_STEP, gamma=GAMMA, demo_fraction=0.5)
    for number in range(1, rows // (episode_steps + 1) + 1):
        for mode in (DEMO, 1):
            reward = np.zeros(episode_steps, np.float32)
            reward[-1] = 1.0
            episode = Episode(
                observation=rng.standard_normal((episode_steps + 1, OBS)),
                base_action=rng.uniform(-1, 1, (episode_steps + 1, ACT)),
                chunk_phase=np.zeros(episode_steps + 1),
                action=rng.uniform(-1, 1, (episode_steps, ACT)),
                reward=reward,
                terminated=True,
                truncated=False,
                intervention=np.zeros(episode_steps),
                explored=np.zeros(episode_steps),
                episode=number,
                mode=mode,
                success=True,
                images={
                    camera: rng.integers(0, 256, (episode_steps + 1, *shape), np.uint8)
                    for camera, shape in CAMERAS.items()
                },
            )
            # The hash of a checkpoint is no part of what is measured, and takes long.
            episode.__dict__["sha256"] = ""
            replay.add_demo(episode) if mode == DEMO else replay.add(episode)
    return replay


def measure(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Return the medians of CPU and wall time [ms], the ways taking turns."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(rounds + 3):
        for name, sample in ways.items():
            cpu, wall = time.process_time(), time.perf_counter()
            batch = sample()
            times = (time.process_time() - cpu, time.perf_counter() - wall)
            del batch
            if turn >= 3:
                spent[name].append(times)
    return {
        name: {
            "ms": round(statistics.median(cpu for cpu, _ in times) * 1e3, 3),
            "least_ms": round(min(cpu for cpu, _ in times) * 1e3, 3),
            "wall_ms": round(statistics.median(wall for _, wall in times) * 1e3, 3),
        }
        for name, times in spent.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--rows", type=int, default=6000, help="of each half of each layout")
    parser.add_argument("--episode-steps", type=int, default=99)
    args = parser.parse_args()
    machine.prepare(1)
    rows, steps = args.rows, args.episode_steps
    weights: dict[str, float] = {}
    ours = {"numpy": make_ours(rows, steps, kernel=False)}
    if native.available():
        ours["kernel"] = make_ours(rows, steps, kernel=True)
    # As many bytes as the uint8 layouts, so that neither profits more from caches.
    plain = {"uint8": Straightforward(rows // 2, np.uint8)}
    plain["float32"] = Straightforward(rows // 8, np.float32)
    source, target = np.ones((2, 2 * BATCH * FRAME_BYTES), np.uint8)
    ways: dict[str, Callable[[], Any]] = {}
    for name, replay in ours.items():
        ways[f"ours, {name}"] = lambda replay=replay: replay.sample(BATCH)
        half = replay.online
        weights[f"ours, {name}"] = half.nbytes / len(half)
    for name, buffer in plain.items():
        ways[f"plain, {name}"] = lambda buffer=buffer: buffer.sample(BATCH)
        weights[f"plain, {name}"] = buffer.bytes
    ways["floor: one copy"] = lambda: np.copyto(target, source)
    load = os.getloadavg()[0]
    figures = measure(ways, args.rounds)
    print(f"{cpu_model()}, one thread, load {load:.1f}; {args.rounds} rounds")
    print(f"{'':18}{'ms':>8}{'least':>8}{'wall':>8}{'bytes per transition':>22}")
    for name, found in figures.items():
        weight = weights.get(name)
        found |= {} if weight is None else {"bytes": round(weight, 1)}
        words = "" if weight is None else f"{weight:.0f}"
        print(
            f"{name:18}{found['ms']:8.2f}{found['least_ms']:8.2f}{found['wall_ms']:8.1f}{words:>22}"
        )
    best = "ours, kernel" if "kernel" in ours else "ours, numpy"
    result = {
        "machine": {
            "cpu": cpu_model(),
            "threads": 1,
            "load": round(load, 1),
            **machine.versions(),
        },
        "sizes": {"batch": BATCH, "n_step": N_STEP, "rows": rows, "episode_steps": steps}
        | {"obs": OBS, "act": ACT, "frame_bytes": FRAME_BYTES, "rounds": args.rounds},
        "ways": figures,
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"replay: ms={figures[best]['ms']:.2f} bytes={weights[best]:.0f}")


if __name__ == "__main__":
    main()
