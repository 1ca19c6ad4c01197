"""From results of cells to the tables, curves and the last line of `make bench-methods`.

A result is one JSON object per cell (`result_of`). Nothing here runs anything; a cell without a
result is missing and is shown so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.learning import residual_success

from resfit_core.intervals import wilson

GOAL = 0.9
DIP_STEPS = 6_000
GRID = 2_500
"""Evaluations all algorithms share; the denser ones of ours would flatter its steps to 90 %."""
Row = tuple[str, str, str]
Result = Mapping[str, Any]


def result_of(report: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is kept of a finished run.

    Args:
        report: its `report.json`.
        records: its `progress.jsonl`.

    Raises:
        ValueError: it is not finished, or the final evaluation is not there.
    """
    final = {r["policy"]: r["verdicts"] for r in records if r["kind"] == "final"}
    if not report["finished"] or not final.get("base") or not final.get("residual"):
        raise ValueError("the run is not finished: report.json or the final evaluation says so")
    episodes = [r for r in records if r["kind"] == "episode"]
    return {
        "evals": [
            {k: r[k] for k in ("env_step", "success", "n", "alone") if k in r}
            for r in records
            if r["kind"] == "eval"
        ],
        "base": _bits(final["base"]),
        "residual": _bits(final["residual"]),
        "train": _bits(r["success"] for r in episodes),
        "train_steps": [int(r["steps"]) for r in episodes],
        "env_steps": report["env_steps"],
        "updates": report["updates"],
        "base_sha256": report["base_sha256"],
        "settings": report["settings"],
    }


def base_at(result: Result, n: int) -> float:
    """Return the base's success on the scenes of an evaluation: the first `n` of the final ones.

    Raises:
        ValueError: the final evaluation had fewer scenes.
    """
    if not 0 < n <= len(result["base"]):
        raise ValueError(f"evaluation of {n} scenes, final one of {len(result['base'])}")
    return result["base"][:n].count("1") / n


def drops(
    result: Result, until: int = DIP_STEPS, *, alone: bool = False
) -> list[tuple[int, float]]:
    """Return how far each evaluation up to a step lies below the base: (env step, share).

    Args:
        result: of a run.
        until: last environment step that counts.
        alone: of the residual, also while it is on trial and the base would act.
    """
    return [
        (
            e["env_step"],
            base_at(result, e["n"]) - (residual_success(e) if alone else e["success"]),
        )
        for e in result["evals"]
        if 0 < e["env_step"] <= until + GRID // 5
    ]


def dip(results: Sequence[Result]) -> dict[str, float] | None:
    """Return the worst drop of any run and that of the mean over runs; None: no evaluation.

    The k-th evaluation of every run belongs together: they are due at the same steps. `alone_…`
    is the same of the residual alone, before the guard relies on it.
    """
    found: dict[str, float] = {}
    for alone in (False, True):
        rows = [[share for _, share in drops(result, alone=alone)] for result in results]
        shared = min((len(row) for row in rows), default=0)
        if not shared:
            return None
        mean, prefix = np.mean([row[:shared] for row in rows], axis=0), "alone_" * alone
        found[f"{prefix}mean"] = float(mean.max())
        found[f"{prefix}single"] = float(max(max(row) for row in rows))
    return found


def on_grid(result: Result, every: int = GRID) -> list[Mapping[str, Any]]:
    """Return the first evaluation at or after each multiple of `every`."""
    kept, following = [], 0
    for e in result["evals"]:
        if e["env_step"] >= following:
            kept.append(e)
            following = (e["env_step"] // every + 1) * every
    return kept


def steps_to(result: Result, goal: float = GOAL) -> int | None:
    """Return the environment steps at the first shared evaluation that reaches the goal."""
    return next((e["env_step"] for e in on_grid(result) if e["success"] >= goal), None)


def pooled(results: Sequence[Result], side: str, draws: int = 2_000) -> dict[str, Any]:
    """Return a final success over seeds.

    Args:
        results: of one row.
        side: `base` or `residual`.
        draws: of the bootstrap.

    Returns:
        `mean`; `low`, `high`: over seeds; `wilson`: 95 %, all scenes as if independent;
        `bootstrap`: 95 %, seeds drawn anew and their scenes drawn anew.
    """
    verdicts = [np.array([bit == "1" for bit in result[side]]) for result in results]
    rates = [float(v.mean()) for v in verdicts]
    rng = np.random.default_rng(0)
    means = []
    for _ in range(draws):
        drawn = rng.integers(len(rates), size=len(rates))
        means.append(
            np.mean([rng.binomial(len(verdicts[i]), rates[i]) / len(verdicts[i]) for i in drawn])
        )
    count, won = sum(len(v) for v in verdicts), int(sum(v.sum() for v in verdicts))
    return {
        "mean": float(np.mean(rates)),
        "low": min(rates),
        "high": max(rates),
        "wilson": wilson(won, count),
        "bootstrap": tuple(float(x) for x in np.percentile(means, (2.5, 97.5))),
    }


def row_figures(results: Sequence[Result], wanted: int) -> dict[str, Any]:
    """Return every figure of a row of the table, from the seeds that there are."""
    if not results:
        return {"seeds": 0, "wanted": wanted}
    reached = [steps_to(result) for result in results]
    found = [step for step in reached if step is not None]
    return {
        "seeds": len(results),
        "wanted": wanted,
        "base": pooled(results, "base"),
        "residual": pooled(results, "residual"),
        "steps_to_90": reached,
        # The mean counts only where every seed arrived; else it would hide the ones that did not.
        "steps_to_90_mean": float(np.mean(found)) if len(found) == len(results) else None,
        "dip": dip(results),
        "cpu_h": float(sum(result.get("cpu_s", 0.0) for result in results) / 3600),
        "curve": curve(results),
    }


def curve(results: Sequence[Result]) -> list[dict[str, float]]:
    """Return mean, least and largest success over seeds at each evaluation that all have.

    `alone`: the mean of the residuals alone, trial or not.
    """
    shared = min(len(result["evals"]) for result in results)
    points = []
    for index in range(shared):
        at = [result["evals"][index] for result in results]
        rates = [e["success"] for e in at]
        points.append(
            {
                "env_step": float(np.mean([e["env_step"] for e in at])),
                "mean": float(np.mean(rates)),
                "low": min(rates),
                "high": max(rates),
                "alone": float(np.mean([residual_success(e) for e in at])),
            }
        )
    return points


HEADER = (
    f"{'task':<17}{'algorithm':<13}{'settings':<15}{'seeds':<6}{'base':>6}{'final':>7}"
    f"{'over seeds':>13}{'pooled 95 %':>13}{'bootstrap':>13}{'steps to 90 %':>15}"
    f"{'dip mean':>9}{'dip one':>8}{'alone mean':>11}{'alone one':>10}{'core h':>8}"
)


def line(row: Row, figures: Mapping[str, Any]) -> str:
    """Return a row in print."""
    task, algo, name = row
    start = f"{task:<17}{algo:<13}{name:<15}{figures['seeds']}/{figures['wanted']:<4}"
    if not figures["seeds"]:
        return start + "  missing"
    end, fallen = figures["residual"], figures["dip"]
    reached = [step for step in figures["steps_to_90"] if step is not None]
    if figures["steps_to_90_mean"] is not None:
        steps = f"{figures['steps_to_90_mean']:.0f}"
    else:
        steps = f"{len(reached)} of {figures['seeds']} seeds"

    def span(low: float, high: float) -> str:
        return f"{low:.3f}..{high:.3f}"

    shown = (
        f"{figures['base']['mean']:>6.3f}{end['mean']:>7.3f}"
        f"{span(end['low'], end['high']):>13}{span(*end['wilson']):>13}"
        f"{span(*end['bootstrap']):>13}{steps:>15}"
    )
    widths = {"mean": 9, "single": 8, "alone_mean": 11, "alone_single": 10}
    dips = "".join(
        f"{fallen[key]:>{width}.3f}" if fallen else f"{'-':>{width}}"
        for key, width in widths.items()
    )
    return start + shown + dips + f"{figures['cpu_h']:>8.2f}"


def last_line(groups: Mapping[str, Mapping[Row, Mapping[str, Any]]], done: int, all_: int) -> str:
    """Return `methods: key=value ...`; what is not known yet is `missing`."""

    def of(group: str, algo: str, name: str, task: str) -> Mapping[str, Any]:
        return groups.get(group, {}).get((task, algo, name), {"seeds": 0})

    words = [f"cells={done}/{all_}"]
    tasks = list(dict.fromkeys(row[0] for row in groups.get("baselines", {})))
    for task in tasks:
        ours = of("baselines", "resfit", "default", task)
        label = task.replace("-", "_")
        full = ours["seeds"] and ours["seeds"] == ours["wanted"]
        words.append(
            f"{label}_final={ours['residual']['mean']:.3f}" if full else f"{label}_final=missing"
        )
        steps = ours.get("steps_to_90_mean") if full else None
        words.append(f"{label}_steps90={steps:.0f}" if steps else f"{label}_steps90=missing")
    names = (
        ("start", "dip"),
        ("start, published actor", "published_actor_dip"),
        ("start, paper", "paper_dip"),
    )
    for name, key in names:
        rows = [f for row, f in groups.get("dip", {}).items() if row[2] == name]
        full = [f["dip"] for f in rows if f["seeds"] and f["seeds"] == f["wanted"] and f["dip"]]
        if full and len(full) == len(rows):
            words.append(f"{key}_mean={max(f['mean'] for f in full):.3f}")
            words.append(f"{key}_single={max(f['single'] for f in full):.3f}")
        else:
            words += [f"{key}_mean=missing", f"{key}_single=missing"]
    return "methods: " + " ".join(words)


def plot(group: str, rows: Mapping[Row, Mapping[str, Any]], folder: Path) -> Path | None:
    """Draw the curves of a group, one picture, a panel per task; None: there are none yet."""
    tasks = list(dict.fromkeys(row[0] for row, figures in rows.items() if figures["seeds"]))
    if not tasks:
        return None
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(tasks), figsize=(6 * len(tasks), 4), squeeze=False)
    for panel, task in zip(panels[0], tasks, strict=True):
        for (of_task, algo, name), figures in rows.items():
            if of_task != task or not figures["seeds"]:
                continue
            points = figures["curve"]
            steps = [point["env_step"] for point in points]
            label = f"{algo}, {name} ({figures['seeds']})"
            (drawn,) = panel.plot(steps, [point["mean"] for point in points], label=label)
            low, high = ([point[key] for point in points] for key in ("low", "high"))
            if any(point["alone"] != point["mean"] for point in points):
                alone = [point["alone"] for point in points]
                panel.plot(steps, alone, "--", color=drawn.get_color(), label=f"{label}: alone")
            panel.fill_between(steps, low, high, color=drawn.get_color(), alpha=0.15, lw=0)
        panel.set(title=task, xlabel="environment steps", ylabel="success", ylim=(0, 1))
        panel.legend(fontsize=7)
    figure.tight_layout()
    path = folder / f"{group}.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return every kept result by its cell's key."""
    return {
        file.stem: json.loads(file.read_text(encoding="utf-8"))
        for file in sorted(folder.glob("*__s*.json"))
    }


def _bits(verdicts: Iterable[bool]) -> str:
    return "".join("1" if verdict else "0" for verdict in verdicts)
