"""The page of a run's report: one HTML file in plain words, images inside."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

CURVE_FILE, VIDEO_FILE = "learning_curve.png", "video.mp4"
VIDEO_NOTE_FILE = "video.json"  # what the video shows, in words
EMBED_VIDEO_BYTES = 12_000_000  # a larger one is linked: some mail programs refuse the page


def render(report: Mapping[str, Any], folder: Path) -> str:
    """Return the page: one file, images inside."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("resfit_core"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(share=share, chance=_chance)
    curve = folder / CURVE_FILE
    note = folder / VIDEO_NOTE_FILE
    return environment.get_template("report.html.j2").render(
        r=report,
        lead=lead(report),
        verdict=_verdict(report),
        missing=report["missing"],
        curve=_base64(curve) if curve.exists() else "",
        video=_video(folder / VIDEO_FILE),
        video_note=json.loads(note.read_text())["note"] if note.exists() else "",
        costs=_costs(report),
        origin=_origin(report),
    )


def lead(report: Mapping[str, Any]) -> str:
    """Say the result in one or two plain sentences."""
    base, residual = report["base"], report["residual"]
    took = f"{report['episodes']} practice episodes ({duration(report['train_wall_s'])})"
    if base["n"] and residual["n"]:
        return (
            f"The frozen policy alone succeeded in {share(base['success'])} of {base['n']} scenes "
            f"it had never met. With the residual that was learned on top of it in {took}, from "
            f"success or failure alone, it is {share(residual['success'])} of {residual['n']}."
        )
    if base["n"]:
        return (
            f"The frozen policy alone succeeded in {share(base['success'])} of {base['n']} "
            f"scenes. After {took} the residual was not evaluated."
        )
    return f"{took[0].upper()}{took[1:]}; nothing was evaluated."


def _verdict(report: Mapping[str, Any]) -> str:
    base, residual = report["base"], report["residual"]
    if not (base["n"] and residual["n"]):
        return ""
    points = 100 * (residual["success"] - base["success"])
    if residual["ci95"][0] > base["ci95"][1]:
        return f"They do not overlap: the residual helps, by about {points:.0f} points."
    if residual["ci95"][1] < base["ci95"][0]:
        return f"They do not overlap: the residual harms, by about {-points:.0f} points."
    return "They overlap: from these scenes alone, one cannot be sure that the two differ."


def _costs(r: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    utd = r["utd"]
    rows = [
        ("Practice episodes", str(r["episodes"]),
         f"of them {r['warmup_episodes']} warm-up (base and noise only)"
         + (f", {r['episodes_aborted']} aborted" if r["episodes_aborted"] else "")),
        ("Control steps", f"{r['env_steps']:,}", "actions executed while practising"),
        ("Updates", f"{r['updates']:,}", "gradient steps of the critic"),
        ("Updates per step", f"{_number(utd['achieved'])} of {_number(utd['target'])}",
         "achieved and aimed at, since learning started"),
        ("Practice time", duration(r["train_wall_s"]),
         f"wall clock, with {duration(r['wait_s'])} of waiting between episodes"),
        ("Control steps per second", _number(r["steps_per_s"], 1),
         "while an episode ran, with the learner at work"),
        ("Updates per second", _number(r["updates_per_s"], 1), "while the learner made any"),
        (f"Worst {r['dip']['window']} episodes",
         "too few" if r["dip"]["worst"] is None else share(r["dip"]["worst"]),
         "lowest success in a row after warm-up"
         + ("" if r["dip"]["base"] is None else f"; the base alone: {share(r['dip']['base'])}")),
    ]  # fmt: skip
    return rows


def _origin(r: Mapping[str, Any]) -> list[tuple[str, str]]:
    git = r["git"] or {}
    commit = git.get("commit") or "no git repository"
    arguments = " ".join(f"{k}:={v}" for k, v in (r["arguments"] or {}).items())
    machine = ", ".join(f"{k} {v}" for k, v in (r["machine"] or {}).items())
    return [
        ("Source", commit + (" (with local changes)" if git.get("dirty") else "")),
        ("Contract", r["contract_sha256"] or "unknown"),
        ("Base policy", r["base_sha256"] or "unknown"),
        ("Residual", f"weights version {r['weights_version']}"),
        ("Machine", machine or "unknown"),
        ("Versions", ", ".join(f"{k} {v}" for k, v in r["versions"].items())),
        ("Arguments", arguments),
    ]


def share(value: float) -> str:
    """Write a share as people say it."""
    return f"{100 * value:.1f} %"


def duration(seconds: float) -> str:
    """Write a time as people say it."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _number(value: float | None, digits: int = 2) -> str:
    return "unknown" if value is None else f"{value:.{digits}f}"


def _chance(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "below 1 in 1,000"


def _video(path: Path) -> str:
    if not path.exists():
        return ""
    if path.stat().st_size > EMBED_VIDEO_BYTES:
        return path.name
    return f"data:video/mp4;base64,{_base64(path)}"


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
