"""The report of a blind evaluation, as JSON and as a page, from the evaluation's files alone."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from resfit_core import tensorfile
from resfit_core.blind import statistics
from resfit_core.blind.rounds import by_place, by_policy, complete
from resfit_core.blind.seal import FOLDER, MATCHES, Opening, read_commitment, read_opened
from resfit_core.blind.statistics import ALPHA, Table
from resfit_core.blind.verify import Check, verify
from resfit_core.machine import versions
from resfit_core.report_numbers import rate, read_run
from resfit_core.report_page import share
from resfit_core.run_log import EpisodeLine, read_objects

JSON_FILE, HTML_FILE = "evaluation.json", "evaluation.html"


def write_report(folder: Path) -> dict[str, Any]:
    """Write `evaluation.json` and `evaluation.html` of an opened evaluation; return the content.

    Args:
        folder: Of the evaluation.

    Raises:
        SealError: The seal is missing or was not opened yet.
        RunLogError, BagError: What the run left is damaged.
    """
    report = numbers(folder)
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    tensorfile.write_atomic(folder / JSON_FILE, text.encode())
    tensorfile.write_atomic(folder / HTML_FILE, render(report).encode())
    return report


def numbers(folder: Path) -> dict[str, Any]:
    """Return the content of `evaluation.json`."""
    run = read_run(folder)
    opening = read_opened(folder / FOLDER)
    checks = verify(folder)
    rounds = complete(opening.commitment, run.episodes)
    episodes = by_policy(opening, run.episodes)
    early = len(rounds) < len(opening.scenes)
    pairs = _pairs(opening, episodes, early=early)
    described = run.described
    return {
        "task": described.get("task"),
        "robot": described.get("robot"),
        "policies": [_policy(opening, i, episodes[i]) for i in range(len(opening.policies))],
        "pairs": pairs,
        "rounds_planned": len(opening.scenes),
        "rounds_complete": len(rounds),
        "ended_early": early,
        "enough_after": statistics.enough([[e.success for e in x] for x in episodes]),
        "alpha": ALPHA,
        "seal": {
            "commitment": read_commitment(folder / FOLDER).sha256,
            "salt": opening.salt,
            "verified": all(c.ok for c in checks),
            "checks": [dataclasses.asdict(c) for c in checks],
        },
        "seeds": [opening.scenes[n - 1] for n in rounds],
        "rounds": _rounds(opening, run.episodes),
        "matches": read_objects(folder / MATCHES),
        "aborted": sum(not e.counts for e in run.episodes),
        "contract_sha256": described.get("contract_sha256"),
        "base_sha256": described.get("base_sha256"),
        "run_id": described.get("run_id"),
        "started": described.get("started"),
        "git": described.get("git"),
        "machine": described.get("machine"),
        "arguments": described.get("arguments"),
        "versions": versions(),
    }


def _policy(opening: Opening, index: int, episodes: Sequence[EpisodeLine]) -> dict[str, Any]:
    steps = [e.steps for e in episodes if e.success]
    policy = opening.policies[index]
    return {
        "name": policy.name,
        "sha256": policy.sha256,
        **rate(e.success for e in episodes),
        "steps_to_success": statistics.steps_summary(steps),
    }


def _pairs(
    opening: Opening, episodes: Sequence[Sequence[EpisodeLine]], *, early: bool
) -> list[dict[str, Any]]:
    if not episodes[0]:
        return []
    pairs = []
    for one, two in itertools.combinations(range(len(opening.policies)), 2):
        first, second = episodes[one], episodes[two]
        won = [e.success for e in first], [e.success for e in second]
        table = Table.of(*won)
        middle, interval = statistics.difference(table)
        both = [(a, b) for a, b in zip(first, second, strict=True) if a.success and b.success]
        running = statistics.sequential(*won)
        pairs.append(
            {
                "first": opening.policies[one].name,
                "second": opening.policies[two].name,
                **dataclasses.asdict(table),
                "difference": middle,
                "difference_ci95": list(interval),
                "p_exact": statistics.mcnemar(table),
                "p_sequential": running.p,
                "enough_after": running.enough_after,
                "steps_difference": statistics.steps_difference(
                    [a.steps for a, _ in both], [b.steps for _, b in both]
                ),
            }
        )
    # An exact test is one of a number of rounds fixed beforehand.
    judged = "p_sequential" if early else "p_exact"
    corrected = statistics.holm([p[judged] for p in pairs])
    for pair, p in zip(pairs, corrected, strict=True):
        pair["judged_by"], pair["p_holm"] = judged, p
        better = pair["second"] if pair["difference"] > 0 else pair["first"]
        pair["better"] = better if p < ALPHA else None
    return pairs


def _rounds(opening: Opening, lines: Sequence[EpisodeLine]) -> list[dict[str, Any]]:
    found = by_place(lines)
    rounds = []
    for number, (seed, order) in enumerate(zip(opening.scenes, opening.orders, strict=True), 1):
        runs = []
        for label, index in zip(opening.commitment.labels, order, strict=True):
            line = found.get((number, label))
            runs.append(
                {
                    "label": label,
                    "policy": opening.policies[index].name,
                    "episode": line.episode if line else None,
                    "success": line.success if line else None,
                    "ended_by": line.ended_by if line else None,
                    "steps": line.steps if line else None,
                }
            )
        rounds.append({"round": number, "seed": seed, "runs": runs})
    return rounds


# --- the page ------------------------------------------------------------------------------------


def render(report: Mapping[str, Any]) -> str:
    """Return the page, one file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("resfit_core"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(share=share, points=_points, chance=_chance, number=_number)
    return environment.get_template("evaluation.html.j2").render(
        r=report, lead=lead(report), origin=_origin(report)
    )


def lead(report: Mapping[str, Any]) -> str:
    """Say the result in plain sentences."""
    done = f"{report['rounds_complete']} of {report['rounds_planned']} rounds"
    if not report["rounds_complete"]:
        return f"{done} are complete: nothing can be said."
    rates = ", ".join(f"{p['name']} {share(p['success'])}" for p in report["policies"])
    verdicts = "; ".join(_verdict(pair) for pair in report["pairs"])
    seal = report["seal"]
    word = "the seal holds" if seal["verified"] else "THE SEAL DOES NOT HOLD"
    return f"Success in {done}: {rates}. {verdicts}. Nobody knew who acted: {word}."


def _verdict(pair: Mapping[str, Any]) -> str:
    if pair["better"] is None:
        return f"{pair['first']} and {pair['second']} are not told apart ({_p(pair)})"
    other = pair["first"] if pair["better"] == pair["second"] else pair["second"]
    return (
        f"{pair['better']} is better than {other} by {abs(100 * pair['difference']):.1f} points "
        f"({_p(pair)})"
    )


def _p(pair: Mapping[str, Any]) -> str:
    return f"p = {_chance(pair['p_holm'])}"


def _origin(r: Mapping[str, Any]) -> list[tuple[str, str]]:
    git = r["git"] or {}
    commit = git.get("commit") or "no git repository"
    return [
        ("Commitment", r["seal"]["commitment"]),
        ("Salt", r["seal"]["salt"]),
        *((f"Policy {p['name']}", p["sha256"] or "no weights") for p in r["policies"]),
        ("Contract", r["contract_sha256"] or "unknown"),
        ("Base policy", r["base_sha256"] or "unknown"),
        ("Scenes", ", ".join(map(str, r["seeds"]))),
        ("Source", commit + (" (with local changes)" if git.get("dirty") else "")),
        ("Machine", ", ".join(f"{k} {v}" for k, v in (r["machine"] or {}).items()) or "unknown"),
        ("Versions", ", ".join(f"{k} {v}" for k, v in r["versions"].items())),
        ("Arguments", " ".join(f"{k}:={v}" for k, v in (r["arguments"] or {}).items())),
    ]


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _chance(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def failed(checks: Sequence[Check]) -> list[str]:
    """Return what does not hold, in words."""
    return [f"{c.what}: {c.found}" for c in checks if not c.ok]
