"""The run directory (docs/architecture.md): made, described and found."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from resfit_bringup import blind, node_parameters, paths, run_file
from resfit_bringup.errors import UsageError
from resfit_bringup.graph import Plan
from resfit_core import tensorfile
from resfit_core.algorithms.config import TrainConfig
from resfit_core.control.limits import beside

# What a continued run must share with its beginning, or its numbers would mean nothing.
FIXED = ("arguments.clock", "arguments.seed", "contract_sha256", "base_sha256")


def describe(plan: Plan, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Return what `run.json` says of a run that is about to start.

    Args:
        plan: Of the job.
        hashes: `contract_sha256`, `base_sha256` and others that are known before the start.
    """
    return {
        "run_id": Path(plan.values["run_dir"]).name,
        "job": plan.job,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        "arguments": dict(plan.values),
        "git": git_state(),
        **hashes,
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "arithmetic": arithmetic(),
        },
        "continued": [],
    }


def arithmetic() -> dict[str, str]:
    """Return what the last bits of a run's numbers depend on: processor and libraries.

    Where all of it is the same, a replay gives the same bits; elsewhere sums are added up in
    another order.
    """
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    facts = dict(reversed([line.partition(":")[::2] for line in lines]))
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = " ".join(sorted(facts.get("flags", "").split()))
    return {
        "processor": facts.get("model name", platform.processor() or platform.machine()),
        "model": " ".join(facts.get(k, "?") for k in ("cpu family", "model", "stepping")),
        "flags_sha256": hashlib.sha256(flags.encode()).hexdigest(),
        **{name: metadata.version(name) for name in ("numpy", "torch")},
    }


def open_run(plan: Plan, hashes: Mapping[str, str]) -> Path:
    """Make the run's folder, or continue the one that is there, and point `runs/latest` to it.

    Raises:
        UsageError: If the folder holds another run, or something that is no run.
    """
    folder = Path(plan.values["run_dir"])
    now = describe(plan, hashes)
    file = folder / run_file.NAME
    if file.exists():
        now = _continued(run_file.read(folder), now, folder)
    elif folder.exists() and any(folder.iterdir()):
        raise UsageError(
            f"run_dir:={folder} holds files but no {run_file.NAME}: give another run_dir:="
        )
    try:
        config = folder / "config"
        config.mkdir(parents=True, exist_ok=True)
        for kind, source in plan.sources.items():
            _copy(Path(source), run_file.config_copy(folder, kind), plan)
            for part in ("safety", "collision", "driver", "hands", "camera", "start", "sim"):
                # Of a robot; the contract looks for them beside its YAML.
                more = beside(source, part)
                if more.is_file():
                    copy = beside(run_file.config_copy(folder, kind), part)
                    tensorfile.write_atomic(copy, more.read_bytes())
        node_parameters.write(plan.nodes, config / "nodes")
        if plan.job == blind.JOB:
            blind.close(plan)
    except OSError as error:
        raise UsageError(
            f"run_dir:={folder} cannot be written ({error.strerror}): give another run_dir:="
        ) from error
    tensorfile.write_atomic(file, (json.dumps(now, indent=2) + "\n").encode())
    if folder.parent.name == "runs":
        point_latest(folder)
    return folder


def _copy(source: Path, target: Path, plan: Plan) -> None:
    """Copy a YAML file into the run, with what the arguments change in it.

    `warmup_episodes` is one number with two readers, the manager and the learner: it must not be
    one thing in the arguments and another in the learning settings.
    """
    text = source.read_text()
    warmup = plan.values.get("warmup_episodes")
    if target.stem == "train" and warmup is not None:
        config = TrainConfig.from_yaml(source)
        if config.warmup_episodes != warmup:
            changed = config.replace(warmup_episodes=warmup).to_dict()
            text = f"# {source}, with warmup_episodes:={warmup}\n{yaml.safe_dump(changed)}"
    tensorfile.write_atomic(target, text.encode())


def _continued(before: dict[str, Any], now: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the description of a run with one more stretch; it keeps its beginning.

    Raises:
        UsageError: If the new stretch would make another run of it.
    """
    for key in ("job", *FIXED, *blind.FIXED):
        if _at(before, key) != _at(now, key):
            raise UsageError(
                f"run_dir:={folder} was made with {key} {_at(before, key)!r}, not "
                f"{_at(now, key)!r}: give the same again, or another run_dir:="
            )
    stretch = {key: now[key] for key in ("job", "started", "arguments", "git")}
    stretches = [*before["continued"], stretch]
    return {**before, "arguments": now["arguments"], "continued": stretches}


def point_latest(folder: Path) -> None:
    """Let the symlink `latest` beside the folder point to it, atomically.

    Raises:
        UsageError: If something that is no symlink has the name.
    """
    link = folder.parent / "latest"
    if link.exists() and not link.is_symlink():
        raise UsageError(f"'{link}' is not a symlink: move it away")
    scratch = folder.parent / f".latest.{os.getpid()}"
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(folder.name)
    os.replace(scratch, link)


def git_state() -> dict[str, Any]:
    """Return commit and cleanness of the source tree; empty commit: no git repository."""
    where = paths.share()

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(where), *words],
                check=False, capture_output=True, text=True, timeout=10,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return {"commit": commit or "", "dirty": bool(commit and git("status", "--porcelain", "-uno"))}


def _at(data: Mapping[str, Any], dotted: str) -> Any:
    for key in dotted.split("."):
        data = data.get(key, {}) if isinstance(data, Mapping) else {}
    return data
