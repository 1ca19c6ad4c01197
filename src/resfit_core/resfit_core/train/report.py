"""`report.json`: the keys of the robot's report (`report_numbers`), out of a run's records."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resfit_core import tensorfile
from resfit_core.data.episode import TRAIN, WARMUP
from resfit_core.loop import MODE_WORDS
from resfit_core.machine import versions
from resfit_core.report_numbers import dip, paired, rate
from resfit_core.run_log import EpisodeLine
from resfit_core.train.job import Record, Result

REPORT_FILE = "report.json"
CURVE_FILE = "learning_curve.png"
TIMED_KEYS = ("train_wall_s", "steps_per_s", "updates_per_s", "started", "run_id")
"""What may differ between two runs of the same seed: wall times, and where and when it ran."""
_EVAL_KEYS = ("env_step", "success", "n", "alone", "on_trial")


def write_report(
    out: Path,
    run: Mapping[str, Any],
    records: Sequence[Record],
    result: Result | None,
    missing: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the report of what exists, and the curve where matplotlib is installed.

    Args:
        out: output folder.
        run: facts known at the start: `task`, `algo`, `arguments`, `settings`, hashes, `started`.
        records: of the recorder.
        result: how training ended; None: it did not.
        missing: what could not be done and why, in words.
    """
    report = numbers(out, run, records, result) | {"missing": list(missing)}
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    tensorfile.write_atomic(out / REPORT_FILE, text.encode())
    try:
        from resfit_core.report_plots import learning_curve
    except ImportError:  # matplotlib is an extra
        return report
    learning_curve(_lines(records), report, out / CURVE_FILE)
    return report


def numbers(
    out: Path, run: Mapping[str, Any], records: Sequence[Record], result: Result | None
) -> dict[str, Any]:
    """Return the content of `report.json`, without `missing`."""
    arguments, first = run["arguments"], run["arguments"]["eval_seed"]
    episodes = [r for r in records if r["kind"] == "episode"]
    evals = [r for r in records if r["kind"] == "eval"]
    final = {
        r["policy"]: dict(enumerate(r["verdicts"], first)) for r in records if r["kind"] == "final"
    }
    base, residual = final.get("base", {}), final.get("residual", {})
    judged = rate(base.values())
    last = episodes[-1] if episodes else {}
    updates = int(last.get("total_updates", 0))
    play_s, learn_s = (sum(r.get(k, 0.0) for r in episodes) for k in ("play_s", "learn_s"))
    trained = [r for r in episodes if r["mode"] == TRAIN] or episodes
    trained_s = sum(r.get("play_s", 0.0) for r in trained)
    return {
        "finished": result is not None,
        "task": run["task"],
        "algo": run["algo"],
        "robot": None,
        "git": None,
        "contract_sha256": run["contract_sha256"],
        "base_sha256": run["base_sha256"],
        "seeds": {
            "run": arguments["seed"],
            "evaluate": sorted(base.keys() | residual.keys()),
            "through_nodes": [],
        },
        "base": judged,
        "residual": rate(residual.values()),
        "paired": paired(base, residual),
        "evals": [{k: r[k] for k in _EVAL_KEYS if k in r} for r in evals],
        "eval_dip": _eval_dip(evals),
        "episodes": len(episodes),
        "episodes_aborted": 0,
        "episodes_stepped_back": sum("stepped_back" in r for r in episodes),
        "warmup_episodes": sum(r["mode"] == WARMUP for r in episodes),
        "env_steps": int(last.get("env_steps", 0)),
        "updates": result.updates if result else updates,
        "utd": {
            "target": result.utd_target if result else None,
            "achieved": result.utd_achieved if result else None,
        },
        "train_wall_s": play_s + learn_s,
        "wait_s": 0.0,
        "steps_per_s": sum(r["steps"] for r in trained) / trained_s if trained_s else None,
        "updates_per_s": updates / learn_s if learn_s else None,
        "dip": dip(_lines(records), judged["success"]),
        "weights_version": last.get("episode", 0) if updates else 0,
        "run_id": out.resolve().name,
        "started": run["started"],
        "arguments": dict(arguments),
        "settings": run["settings"],
        "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
        "versions": versions(),
        "extra": dict(result.extra) if result else {},
    }


def _eval_dip(evals: Sequence[Record]) -> dict[str, Any]:
    """Return the lowest evaluation beside the one before the first step, on the same scenes."""
    seen = [r["success"] for r in evals if r["success"] is not None]
    return {"worst": min(seen[1:], default=None), "base": seen[0] if seen else None}


def _lines(records: Sequence[Record]) -> list[EpisodeLine]:
    return [
        EpisodeLine(
            episode=r["episode"],
            mode=MODE_WORDS[r["mode"]],
            use_residual=r["use_residual"],
            seed=r["seed"],
            ended_by=r["ended_by"],
            success=r["success"],
            steps=r["steps"],
            start_s=0.0,
            end_s=0.0,
        )
        for r in records
        if r["kind"] == "episode"
    ]
