"""How long a learner update takes, beside a plain eager implementation of the same update.

    make bench-learner                                   all three cases, a few minutes
    make bench-learner ARGS="--cases state256 --rounds 9"
    make bench-learner ARGS="--device cuda"              ours alone, on a GPU

One update is one critic step and a quarter of an actor step, ten heads, batch 256, one thread.
Blocks of plain, ours in float32 and ours with bfloat16 products take turns in one process with
one allocator setting; ratios are taken within a round and their median is reported. Times are CPU
times of the process: with one thread that is the time it would take alone, on a busy machine too,
except for caches shared with others. Wall time beside it tells how busy the machine was.
The floor is the update's products alone, at the rate that a large product reaches here.

The last line is `learner: key=value ...`; all goes to benchmarks/results/learner_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain_update import PlainUpdate
from torch.utils.flop_counter import FlopCounterMode

from resfit_core import machine
from resfit_core.algorithms.config import TrainConfig
from resfit_core.algorithms.resfit import ResFiT
from resfit_core.data.replay import Windows
from resfit_core.nets import native

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "learner_speed.json"
OBS, ACT, BATCH, SCALE = 53, 29, 256, 0.2
CAMERAS = {"left": (84, 84, 3), "right": (84, 84, 3)}
# name: width, cameras, updates per block, rounds, keys of the last line
CASES: dict[str, tuple[int, dict[str, tuple[int, int, int]], int, int, tuple[str, str]]] = {
    "state256": (256, {}, 24, 7, ("state256_x", "plain256_ms")),
    "state1024": (1024, {}, 4, 5, ("state1024_x", "plain1024_ms")),
    "two_cameras": (1024, CAMERAS, 4, 3, ("two_cameras_x", "plain_cameras_ms")),
}
PARTS = ("batch", "target", "_step", "soft_update_targets", "update_actor", "update_critic")


def gemm_gflops(dtype: torch.dtype) -> float:
    """Return the rate of a product of 1024 x 1024 matrices; the best of 20, for others compute."""
    one, other = (torch.randn(1024, 1024).to(dtype) for _ in range(2))
    times = []
    for _ in range(20):
        begin = time.process_time()
        torch.mm(one, other)
        times.append(time.process_time() - begin)
    return 2 * 1024**3 / min(times) / 1e9


def make_windows(cameras: dict[str, tuple[int, int, int]]) -> Windows:
    """Return a batch of noise."""
    rng = np.random.default_rng(0)

    def floats(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    def images() -> dict[str, np.ndarray]:
        return {
            name: rng.integers(0, 256, (BATCH, *shape), dtype=np.uint8)
            for name, shape in cameras.items()
        }

    vectors = {
        f"{when}{name}": np.clip(floats(BATCH, size), -1, 1)
        for when in ("", "next_")
        for name, size in (("observation", OBS), ("base_action", ACT), ("chunk_phase", 1))
    }
    discount = np.full(BATCH, 0.9, np.float32)
    return Windows(
        action=np.clip(floats(BATCH, ACT), -1, 1),
        reward=floats(BATCH),
        discount=discount,
        demos=BATCH // 2,
        images=images(),
        next_images=images(),
        **vectors,
    )


def make_rule(width: int, cameras: dict[str, Any], dtype: str, device: str) -> ResFiT:
    """Return our learner's algorithm, with the actor switched on and nothing but the method."""
    config = TrainConfig(
        critic_width=width,
        actor_width=width,
        batch_size=BATCH,
        critic_warmup_updates=0,
        actor_pessimism=0.0,
        actor_base_weight=0.0,
        matmul_dtype=dtype,
        kernels="native" if native.available() else "torch",
        device=device,
    )
    return ResFiT(config, OBS, ACT, np.float32(SCALE), image_shapes=cameras)


def block(update: Callable[[Windows], Any], windows: Windows, count: int) -> tuple[float, float]:
    """Return CPU and wall time per update [ms]."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        update(windows)
    spent = (time.process_time() - cpu, time.perf_counter() - wall)
    return spent[0] / count * 1e3, spent[1] / count * 1e3


def products_gflop(rule: ResFiT, windows: Windows) -> float:
    """Return the arithmetic of matrix products and convolutions per update, in 1e9 operations."""
    with FlopCounterMode(display=False) as counter:
        for _ in range(rule.config.actor_every):
            rule.update(windows)
    return counter.get_total_flops() / rule.config.actor_every / 1e9


def profile(rule: ResFiT, windows: Windows, count: int) -> dict[str, float]:
    """Return CPU time per update of each part [ms]."""
    spent: dict[str, float] = {}

    def timed(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            begin = time.process_time()
            try:
                return original(*args, **options)
            finally:
                spent[name] = spent.get(name, 0.0) + time.process_time() - begin

        setattr(owner, name, call)

    for name in PARTS:
        timed(rule, name)
    timed(rule.critic_optimizer, "step_on")
    timed(rule.actor_optimizer, "step_on")
    original = rule.update_actor

    def actor(batch: Any) -> Any:
        # What the actor's step spends in shared parts belongs to the actor.
        before = dict(spent)
        result = original(batch)
        for name in ("_step", "step_on"):
            spent[name] = before.get(name, 0.0)
        return result

    rule.update_actor = actor  # type: ignore[method-assign]
    for _ in range(count):
        rule.update(windows)
    ms = {name: value / count * 1e3 for name, value in spent.items()}
    rest = ms["update_critic"] - ms["target"] - ms["_step"] - ms["soft_update_targets"]
    return {
        "batch (views, encoders forward)": ms["batch"],
        "target": ms["target"],
        "critic forward": rest,
        "critic backward": ms["_step"] - ms["step_on"],
        "AdamW with clipping": ms["step_on"],
        "soft update": ms["soft_update_targets"],
        "actor, a quarter": ms["update_actor"],
    }


def measure(name: str, rounds: int | None) -> dict[str, Any]:
    """Measure one case; print its table; return its figures."""
    width, cameras, count, usual, _ = CASES[name]
    windows = make_windows(cameras)
    low, exact = (make_rule(width, cameras, dtype, "cpu") for dtype in ("bfloat16", "float32"))
    ways = {"plain": PlainUpdate(exact).update, "float32": exact.update, "bfloat16": low.update}
    for update in ways.values():
        block(update, windows, exact.config.actor_every)
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    wall: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds or usual):
        for way, update in ways.items():
            spent = block(update, windows, count)
            cpu[way].append(spent[0])
            wall[way].append(spent[1])
    gflop = products_gflop(low, windows)
    figures: dict[str, Any] = {"products_gflop": round(gflop, 3), "rounds": len(cpu["plain"])}
    print(f"\n{name}: {gflop:.2f} GFLOP of products per update of ours")
    print(f"{'':10}{'ms':>9}{'updates/s':>11}{'x plain':>9}{'range':>14}{'wall ms':>9}")
    for way in ways:
        ratios = [p / t for p, t in zip(cpu["plain"], cpu[way], strict=True)]
        ms = statistics.median(cpu[way])
        ratio = statistics.median(ratios)
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        seen = statistics.median(wall[way])
        print(f"{way:10}{ms:9.2f}{1e3 / ms:11.1f}{ratio:9.2f}{spread:>14}{seen:9.1f}")
        figures[way] = {"ms": round(ms, 3), "x": round(ratio, 3), "wall_ms": round(seen, 3)}
        figures[way] |= {"x_least": round(min(ratios), 3), "x_most": round(max(ratios), 3)}
    parts = profile(low, windows, count)
    print("bfloat16, by part [ms]: " + ", ".join(f"{k} {v:.2f}" for k, v in parts.items()))
    figures["parts_ms"] = {key: round(value, 3) for key, value in parts.items()}
    return figures


def on_gpu(names: list[str]) -> None:
    """Time ours alone on a GPU, wall time with the queue emptied; nothing is stored."""
    for name in names:
        width, cameras, count, _, _ = CASES[name]
        windows = make_windows(cameras)
        for dtype in ("float32", "bfloat16"):
            rule = make_rule(width, cameras, dtype, "cuda")
            block(rule.update, windows, 8)
            torch.cuda.synchronize()
            begin = time.perf_counter()
            for _ in range(4 * count):
                rule.update(windows)
            torch.cuda.synchronize()
            ms = (time.perf_counter() - begin) / (4 * count) * 1e3
            print(f"{name} {dtype}: {ms:.2f} ms, {1e3 / ms:.0f} updates/s")


def keep(figures: dict[str, Any], rates: dict[str, float]) -> None:
    """Write what was measured beside the cases that an earlier run measured."""
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    result = {
        "machine": {"cpu": cpu_model(), "threads": 1, **machine.versions()},
        "sizes": {"obs": OBS, "act": ACT, "batch": BATCH, "heads": 10, "actor_every": 4},
        "gemm_gflops": {name: round(rate, 1) for name, rate in rates.items()},
        "cases": {**before.get("cases", {}), **figures},
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def cpu_model() -> str:
    """Return the CPU's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, help="rounds of each case; default: by case")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()
    machine.prepare(1)
    torch.manual_seed(0)
    if args.device == "cuda":
        on_gpu(args.cases)
        return
    load = os.getloadavg()[0]
    rates = {
        str(d).removeprefix("torch."): gemm_gflops(d) for d in (torch.float32, torch.bfloat16)
    }
    words = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    print(f"{cpu_model()}, one thread, load {load:.1f}; GEMM {words} GFLOP/s")
    figures = {}
    for name in args.cases:
        case = figures[name] = measure(name, args.rounds)
        case["load"] = round(os.getloadavg()[0], 1)
        case["floor_ms"] = {
            d: round(case["products_gflop"] / r * 1e3, 3) for d, r in rates.items()
        }
        words = ", ".join(f"{d} {ms:.2f} ms" for d, ms in case["floor_ms"].items())
        print(f"floor: {words}", flush=True)
        keep(figures, rates)
    keys = {}
    for name, case in figures.items():
        keys[CASES[name][4][0]] = f"{case['bfloat16']['x']:.2f}"
        keys[CASES[name][4][0].removesuffix("_x") + "_fp32_x"] = f"{case['float32']['x']:.2f}"
        keys[CASES[name][4][1]] = f"{case['plain']['ms']:.2f}"
    keys["gemm_gflops"] = f"{rates['float32']:.0f}"
    keys["gemm_bf16_gflops"] = f"{rates['bfloat16']:.0f}"
    print("learner: " + " ".join(f"{key}={value}" for key, value in keys.items()))


if __name__ == "__main__":
    main()
