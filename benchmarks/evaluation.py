"""A blind evaluation through all nodes, beside the training report of the same run.

    make bench-evaluation ARGS="runs/latest"                    100 rounds, base against residual
    make bench-evaluation ARGS="runs/latest --rounds 20"

Rounds use the scenes of the training report from its first one on, so that each verdict can be
compared with the report's: simulator, policies and filter are the same, so must they be.
Interrupted, the same command goes on. The last line is `evaluation: key=value ...`; the figures
go to benchmarks/results/evaluation.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from resfit_core.report_numbers import numbers, read_run, verdicts

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def evaluate(run: Path, rounds: int) -> Path:
    """Run a blind evaluation, or go on with it; return its folder.

    Raises:
        SystemExit: It did not come to its end.
    """
    command = [
        sys.executable, "-m", "resfit_bringup.main", "run", "evaluate", f"run_dir:={run}",
        f"rounds:={rounds}", "keyboard:=false",
    ]  # fmt: skip
    code = subprocess.run(command, check=False).returncode
    if code:
        raise SystemExit(f"the evaluation ended with exit code {code}; the same command goes on")
    done = sorted((run / "evaluations").glob("[0-9][0-9][0-9]/evaluation.json"))
    if not done:
        raise SystemExit(f"no opened evaluation in {run / 'evaluations'}")
    return done[-1].parent


def compare(run: Path, evaluation: Path) -> dict[str, Any]:
    """Return the evaluation's figures beside those of the training report."""
    blind = json.loads((evaluation / "evaluation.json").read_text())
    (pair,) = blind["pairs"]
    training = read_run(run)
    report, seen = numbers(training), verdicts(training)
    same = of = 0
    for entry in blind["rounds"]:
        for one in entry["runs"]:
            known = seen.base if one["policy"] == "base" else seen.residual
            if one["success"] is not None and entry["seed"] in known:
                same, of = same + (known[entry["seed"]] == one["success"]), of + 1
    base, residual = blind["policies"]
    return {
        "rounds": blind["rounds_complete"],
        "base": base["success"],
        "base_ci95": base["ci95"],
        "residual": residual["success"],
        "residual_ci95": residual["ci95"],
        "residual_name": residual["name"],
        "difference": pair["difference"],
        "difference_ci95": pair["difference_ci95"],
        "p": pair["p_exact"],
        "p_sequential": pair["p_sequential"],
        "enough_after": pair["enough_after"],
        "better": pair["better"],
        "aborted": blind["aborted"],
        "seal_verified": blind["seal"]["verified"],
        "report": {
            "base": report["base"],
            "residual": report["residual"],
            "paired": report["paired"],
            "weights_version": report["weights_version"],
            "better": better(report),
        },
        "same_verdicts": same,
        "of": of,
        "contract_sha256": blind["contract_sha256"],
        "git": blind["git"],
        "machine": {
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "load": [round(x, 2) for x in os.getloadavg()],
            "time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        },
    }


def better(report: dict[str, Any]) -> str | None:
    """Return who the training report says is better; None: not told apart at 5 %."""
    p = report["paired"]["p"]
    if p is None or p >= 0.05:
        return None
    return "residual" if report["residual"]["success"] > report["base"]["success"] else "base"


def main() -> int:
    """Run, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/latest"))
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path, default=RESULTS / "evaluation.json")
    options = parser.parse_args()
    run = options.run.resolve()
    found = compare(run, evaluate(run, options.rounds))
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    report = found["report"]
    print(f"\n{'':<18}{'base':>8}{'residual':>10}   better")
    for name, base, residual, who in (
        ("blind evaluation", found["base"], found["residual"], found["better"]),
        ("training report", report["base"]["success"], report["residual"]["success"],
         report["better"]),
    ):  # fmt: skip
        rates = [f"{x:.1%}" if x is not None else "none" for x in (base, residual)]
        print(f"{name:<18}{rates[0]:>8}{rates[1]:>10}   {who or 'not told apart'}")
    print(
        f"evaluation: rounds={found['rounds']} base={found['base']:.3f} "
        f"residual={found['residual']:.3f} difference={found['difference']:.3f} "
        f"p={found['p']:.2g} enough_after={found['enough_after']} "
        f"same_verdicts={found['same_verdicts']} of={found['of']} "
        f"same_better={str(better_of(found) == report['better']).lower()} "
        f"seal_verified={str(found['seal_verified']).lower()}"
    )
    return 0


def better_of(found: dict[str, Any]) -> str | None:
    """Return who the evaluation says is better, in the report's words."""
    if found["better"] is None:
        return None
    return "residual" if found["better"] == found["residual_name"] else "base"


if __name__ == "__main__":
    sys.exit(main())
