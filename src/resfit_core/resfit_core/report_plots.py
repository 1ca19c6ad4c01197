"""The learning curve of a run's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from resfit_core.report_numbers import WINDOW, windowed
from resfit_core.run_log import EpisodeLine

INK, MUTED, GRID = "#1d2433", "#667085", "#e4e7ec"
BASE, RESIDUAL, WARMUP = "#98a2b3", "#0e7490", "#f5f0e6"


def learning_curve(episodes: Sequence[EpisodeLine], report: Mapping[str, Any], path: Path) -> None:
    """Draw success per episode window, the base's interval as a band, and the final evaluation.

    Args:
        episodes: of the run, in order.
        report: content of `report.json`; `base` and `residual` may be without episodes.
        path: PNG to write.
    """
    practice = [e for e in episodes if e.practice and e.rated]
    figure = Figure(figsize=(9.6, 5.0), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    last = max(len(practice), 1)
    window = min(WINDOW, last)
    warm = sum(e.mode == "warmup" for e in practice)
    if warm:
        axes.axvspan(0, warm, color=WARMUP, lw=0, zorder=0)
        axes.text(warm / 2, 1.035, "warm-up", ha="center", va="bottom", color=MUTED, fontsize=9)
    _band(axes, report["base"])
    _rug(axes, practice)
    curve = windowed([e.success for e in practice], window) if practice else []
    axes.plot(
        range(window, window + len(curve)), curve, color=RESIDUAL, lw=2.2, zorder=4,
        label=f"while practising, with exploration noise: success over the last {window} episodes",
    )  # fmt: skip
    _final(axes, report["residual"], last)
    axes.set(xlim=(0, last * 1.06), ylim=(-0.045, 1.03), xlabel="practice episode")
    axes.set_ylabel("success")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    title = f"{report['task']}: learning on top of a frozen policy"
    figure.suptitle(title, x=0.012, ha="left", color=INK, fontsize=13, fontweight="bold")
    axes.legend(
        loc="upper left", bbox_to_anchor=(0, -0.13), frameon=False, fontsize=9, labelcolor=INK
    )
    figure.savefig(path, facecolor="white")


def _band(axes: Any, base: Mapping[str, Any]) -> None:
    if not base["n"]:
        return
    low, high = base["ci95"]
    axes.axhspan(low, high, color=BASE, alpha=0.28, lw=0, zorder=1)
    value = f"{100 * base['success']:.1f} %"
    label = f"base policy alone: {value} of {base['n']} unseen scenes, 95 % interval"
    axes.axhline(base["success"], color=BASE, lw=1.6, zorder=2, label=label)


def _rug(axes: Any, practice: Sequence[EpisodeLine]) -> None:
    """Every single episode: a mark at the top for a success, at the bottom for none."""
    for success, y in ((True, 1.012), (False, -0.028)):
        at = [i + 1 for i, e in enumerate(practice) if e.success == success]
        axes.plot(at, [y] * len(at), "|", color=RESIDUAL if success else MUTED, ms=5, alpha=0.55)


def _final(axes: Any, residual: Mapping[str, Any], last: int) -> None:
    if not residual["n"]:
        return
    low, high = residual["ci95"]
    value = residual["success"]
    axes.errorbar(
        [last * 1.03], [value], yerr=[[value - low], [high - value]], fmt="o", ms=7, capsize=4,
        color="#b45309", zorder=5,
        label=f"base + residual, no noise: {100 * value:.1f} % of {residual['n']} unseen scenes, "
        "95 % interval",
    )  # fmt: skip
