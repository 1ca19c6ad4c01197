"""`resfit info`: what a checkpoint, a recorded episode or a run is, in a few lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from resfit_bringup import run_file
from resfit_bringup.errors import UsageError
from resfit_core.run_log import RunLogError, read_episodes, read_objects

LARGEST_HEADER = 100_000_000  # bytes; a larger one is no safetensors file


def describe(path: Path) -> str:
    """Return what the path holds, as lines of text.

    Raises:
        UsageError: If it is none of the three.
    """
    if (path / run_file.NAME).is_file():
        return "\n".join(_run(path))
    if (path / "manifest.json").is_file():
        return "\n".join(_bag(path))
    if path.suffix == ".mcap" and (path.parent / "manifest.json").is_file():
        return "\n".join(_bag(path.parent))
    if (path / "learner.safetensors").is_file():
        return "\n".join(_tensors(path / "learner.safetensors"))
    if path.suffix == ".safetensors" and path.is_file():
        return "\n".join(_tensors(path))
    raise UsageError(
        f"'{path}' is none of: a run (run.json), a recorded episode (manifest.json), "
        "a checkpoint (.safetensors)"
    )


def _run(folder: Path) -> Iterator[str]:
    described = run_file.read(folder)
    try:
        episodes = read_episodes(folder / "episodes.jsonl")
        learner = read_objects(folder / "learner.jsonl")
    except RunLogError as error:
        raise UsageError(str(error)) from error
    yield f"run {described['run_id']}: job {described['job']}, started {described['started']}"
    yield from _pairs(described, ("task", "robot", "contract_sha256", "base_sha256"))
    yield f"  git: {described['git'].get('commit') or 'none'}"
    blind = [e for e in episodes if e.label]
    if blind:
        yield f"  blind evaluation: {len(blind)} episodes"
    episodes = [e for e in episodes if not e.label]
    for mode in ("warmup", "train", "evaluate", "demo"):
        for side in (False, True):
            seen = [e for e in episodes if (e.mode, e.use_residual) == (mode, side)]
            if seen:
                good = sum(e.success for e in seen)
                who = "with residual" if side else "base alone"
                yield f"  {mode}, {who}: {len(seen)} episodes, {good} successes"
    if learner:
        yield from _pairs(learner[-1], ("updates", "utd_achieved", "weights_version"))
    if (folder / "report.html").exists():
        yield f"  report: {folder / 'report.html'}"


def _bag(folder: Path) -> Iterator[str]:
    file = folder / "manifest.json"
    try:
        manifest = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise UsageError(f"{file} is damaged: {error}") from error
    yield f"recorded episode {folder.name}"
    yield from _pairs(manifest, manifest.keys())


def _tensors(path: Path) -> Iterator[str]:
    header = _header(path)
    metadata = header.pop("__metadata__", {})
    yield f"checkpoint {path.name}, {path.stat().st_size:,} bytes"
    for key, value in metadata.items():
        loaded = _json_or_text(value)
        if isinstance(loaded, Mapping):
            yield from _pairs(loaded, loaded.keys())
        else:
            yield f"  {key}: {_short(loaded)}"
    for name, facts in header.items():
        yield f"  tensor {name}: {facts['dtype']} {tuple(facts['shape'])}"


def _header(path: Path) -> dict[str, Any]:
    """Read the header alone: a checkpoint may be large."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        data = file.read(length) if length < LARGEST_HEADER else b""
    try:
        return json.loads(data)
    except ValueError as error:
        raise UsageError(f"'{path}' is cut short or no safetensors file ({error})") from error


def _pairs(data: Mapping[str, Any], keys: Any) -> Iterator[str]:
    for key in keys:
        if key in data:
            yield f"  {key}: {_short(data[key])}"


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text):,} characters)"
