"""Tries of the fault matrix on disk, and the row that they make.

Each try is one line of `<folder>/<case>.jsonl`, written at once:
`case`, `settled` (sound commands were carried out before), `named` (the reason was given),
`to_hold_ms` (None: no hold), `late`, `moved` (on a stale command), `outside` (targets outside the
limits), `recovered`, `words` (with which an episode was given up), `begun_again` (camera cases:
episodes begun anew until sound commands flowed). A try that did not settle is no try: it stays in
the file, counts as not recovered, and one more is made.
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


def played(tries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the tries in which the fault came about."""
    return [one for one in tries if one["settled"]]


def missing(folder: Path, name: str, wanted: int) -> int:
    """Return how many tries of a case are still to be made."""
    return max(0, wanted - len(played(read(folder, name))))


def first(tries: list[dict[str, Any]], wanted: int) -> list[dict[str, Any]]:
    """Return so many of the tries; those that did not settle stay with them."""
    return [*played(tries)[:wanted], *(one for one in tries if not one["settled"])]


def row_of(name: str, known: dict[str, Any], tries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the tries of a case showed, in plain numbers; times in milliseconds."""
    done = played(tries)
    times = [one["to_hold_ms"] for one in done if one["to_hold_ms"] is not None]
    words = next((one["words"] for one in done if one["words"]), "")
    return {
        "case": name,
        **known,
        "robot": f"{known['robot']}: \u201c{words}\u201d" if words else known["robot"],
        "tries": len(done),
        "median_ms": round(statistics.median(times), 1) if times else None,
        "max_ms": round(max(times), 1) if times else None,
        "late": sum(one["late"] for one in done),
        "moved_on_stale": sum(one["moved"] for one in done),
        "unnamed": sum(not one["named"] for one in done),
        "outside": sum(one["outside"] for one in done),
        "not_recovered": sum(not one["recovered"] for one in tries),
        "begun_again": sum(one.get("begun_again", 0) for one in tries),
    }
