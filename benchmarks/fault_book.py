"""Tries of the fault matrix on disk, and the row that they make.

Each try is one line of `<folder>/<case>.jsonl`, written at once:
`case`, `settled` (sound commands were carried out before), `named` (the reason was given),
`to_hold_ms` (None: no hold), `late`, `moved` (on a stale command), `outside` (targets outside the
limits), `recovered`, `words` (with which an episode was given up).
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any


def file_of(folder: Path, name: str) -> Path:
    """Return the file of a case's tries."""
    return folder / f"{name}.jsonl"


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return a case's tries so far; a line cut short by the end of its process does not count."""
    file = file_of(folder, name)
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def row_of(name: str, known: dict[str, Any], tries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the tries of a case showed, in plain numbers; times in milliseconds."""
    played = [one for one in tries if one["settled"]]
    times = [one["to_hold_ms"] for one in played if one["to_hold_ms"] is not None]
    words = next((one["words"] for one in played if one["words"]), "")
    return {
        "case": name,
        **known,
        "robot": f"{known['robot']}: \u201c{words}\u201d" if words else known["robot"],
        "tries": len(played),
        "median_ms": round(statistics.median(times), 1) if times else None,
        "max_ms": round(max(times), 1) if times else None,
        "late": sum(one["late"] for one in played),
        "moved_on_stale": sum(one["moved"] for one in played),
        "unnamed": sum(not one["named"] for one in played),
        "outside": sum(one["outside"] for one in played),
        "not_recovered": sum(not one["recovered"] for one in tries),
    }
