"""`resfit doctor`: reads what a run would start with, or has done, and has it checked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from resfit_bringup import graph, paths, run_file
from resfit_bringup.arguments import Argument, parse_all
from resfit_bringup.errors import UsageError
from resfit_core.algorithms.config import TrainConfig, resolve_scale
from resfit_core.base.checkpoint import load_base
from resfit_core.base.protocol import BasePolicy, Images, open_loop
from resfit_core.build import build_learner, build_policy
from resfit_core.contract import Contract, load_contract
from resfit_core.data.bag_reader import RecordedEpisode, read_episode
from resfit_core.data.bags import list_episodes, read_manifest
from resfit_core.data.episode import EVALUATE, TRAIN
from resfit_core.doctor import critic, names, policy, practice
from resfit_core.doctor.finding import FAIL, Finding, bad, good, skipped
from resfit_core.run_log import read_episodes
from resfit_core.weights import newest_weights

ARGUMENTS = (
    graph.ROBOT,
    graph.TASK,
    graph.OBSERVATION,
    graph.BASE,
    graph.DEMOS,
    graph.TRAIN_CONFIG,
    Argument("run_dir", "", "a run, finished or going on; empty: only what is before one"),
    Argument("newest", 40, "newest recorded episodes of the run that are read", least=1),
)
_REMAKE = "make demos and base anew with this robot's YAML, or give the one they were made with"


def examine(given: Mapping[str, str]) -> list[Finding]:
    """Check a robot, task, base and demos, and what a run did with them.

    Args:
        given: Arguments as text; with `run_dir`, those of the run are its defaults.

    Raises:
        UsageError: An argument is wrong, or nothing can be read.
    """
    parse_all(ARGUMENTS, given, "doctor")
    folder = Path(given["run_dir"]).resolve() if given.get("run_dir") else None
    if folder is not None:
        given = run_file.with_inherited(given, ARGUMENTS, folder)
    values = parse_all(ARGUMENTS, given, "doctor")
    try:
        patient = Patient(values, folder)
        found = list(patient.before())
        return found + (list(patient.during()) if folder is not None else [])
    except (ValueError, OSError) as error:  # our typed errors name value and fix
        return [bad("readable", str(error), "mend that first; no further check was made")]


def as_text(findings: Sequence[Finding]) -> str:
    """Return the findings for a terminal, with the sum in the last line."""
    failed = sum(f.failed for f in findings)
    verdict = f"doctor: {failed} of {len(findings)} checks failed" if failed else (
        f"doctor: nothing found in {len(findings)} checks"
    )  # fmt: skip
    return "\n".join([*(f.line() for f in findings), verdict])


def as_json(findings: Sequence[Finding]) -> str:
    """Return the findings as JSON."""
    failed = sum(f.state == FAIL for f in findings)
    listed = [dataclasses.asdict(f) for f in findings]
    return json.dumps({"failed": failed, "findings": listed}, indent=2, ensure_ascii=False)


class Patient:
    """All that is looked at, read once."""

    def __init__(self, values: Mapping[str, Any], folder: Path | None) -> None:
        """Find the files.

        Args:
            values: Of `ARGUMENTS`.
            folder: Of the run; None: there is none.
        """
        self._folder, self._newest = folder, values["newest"]
        observation = values["observation"]
        self.contract: Contract = load_contract(
            paths.config_file("robot", values["robot"]),
            paths.config_file("task", values["task"]),
            observation,
        )
        self.config = TrainConfig.from_yaml(
            paths.train_config(values["train_config"], values["task"], observation)
        )
        self.scale = resolve_scale(self.config.residual_scale, self.contract.groups())
        self._base_name = paths.base(values["base"], values["task"], observation)
        self._demos_folder = Path(paths.demos(values["demos"], values["task"]))

    @cached_property
    def base(self) -> BasePolicy:
        """The frozen base; refused where it was made for another contract."""
        return load_base(self._base_name, self.contract)

    @cached_property
    def demos(self) -> list[RecordedEpisode]:
        """Every demonstration, checked against the contract."""
        return self._read(list_episodes(self._demos_folder), "demonstration")

    @cached_property
    def run(self) -> list[RecordedEpisode]:
        """The newest closed episodes of the run that have steps."""
        if self._folder is None:
            return []
        listed = [p for p in list_episodes(self._folder) if read_manifest(p).complete]
        return self._read(listed[-self._newest :], "episode")

    def _read(self, listed: Sequence[Path], what: str) -> list[RecordedEpisode]:
        episodes = []
        for path in listed:
            episode = read_episode(path)
            self.contract.require(episode.contract_sha256, f"{what} {path}")
            episodes.append(episode)
        return episodes

    # --- before a run --------------------------------------------------------------------------

    def before(self) -> Iterator[Finding]:
        """Check robot, task, base and demos."""
        contract, joints = self.contract, self.contract.joint_names
        if not self.demos:
            yield bad("demos", f"{self._demos_folder} holds no recorded episode",
                      "run 'make demos', or give demos:=")  # fmt: skip
            return
        base = self.base
        yield good(
            "contract",
            f"base and {len(self.demos)} demos were made for robot '{contract.robot}' and task "
            f"'{contract.task}' ({contract.variant})",
        )
        shown = [self._images(e) for e in self.demos]
        played = [
            open_loop(base, e.observation, i, e.seed)[0]
            for e, i in zip(self.demos, shown, strict=True)
        ]
        yield policy.scale_zero(np.concatenate(played), joints)
        first = self.demos[0]
        yield policy.queue_reset(base, first.observation, shown[0], first.seed)
        targets = np.concatenate([e.action_rad for e in self.demos])
        where = contract.layout.get("joint_position")
        if where is not None:
            measured = np.concatenate([e.observation[1:, where] for e in self.demos])
            yield policy.joint_order(
                joints, targets, measured, "demos: targets, measured", _REMAKE
            )
            yield policy.joint_limits(
                joints,
                contract.lower,
                contract.upper,
                measured,
                "demos, measured",
                policy.MEASURED_SLACK_RAD,
            )
        proposed = np.concatenate([base.action_space.to_rad(a[:-1]) for a in played])
        yield policy.joint_order(joints, targets, proposed, "demos, base", _REMAKE)
        yield policy.joint_limits(joints, contract.lower, contract.upper, targets, "demos")
        yield policy.within_range(joints, base.action_space.low, base.action_space.high, targets)
        yield policy.gaps([e.stamp_ns for e in self.demos], contract.period_s)
        if self._folder is None:
            yield practice.rewards([], sum(e.verdict.success for e in self.demos))

    def _images(self, episode: RecordedEpisode) -> list[Images]:
        cameras = dict(zip(self.contract.images, episode.images, strict=True))
        return [
            {name: frames[row] for name, frames in cameras.items()}
            for row in range(len(episode.observation))
        ]

    # --- during and after one ------------------------------------------------------------------

    def during(self) -> Iterator[Finding]:
        """Check what the run did."""
        lines = read_episodes(self._folder / "episodes.jsonl")
        yield practice.rewards(lines, sum(e.verdict.success for e in self.demos))
        yield practice.success(lines, self.config.guard())
        if not self.run:
            yield skipped("episodes", "the run has no closed episode yet")
            return
        yield policy.queue_reset_in_run((e.episode, float(e.chunk_phase[0])) for e in self.run)
        yield policy.passed_on(
            (e.episode, e.base_action[:-1], e.proposed)
            for e in self.run
            if not e.explored.any() and not e.weights_version.any()
        )
        floor = names.floors(self.contract, self.config.observation_std_floor)
        yield practice.drift(
            np.concatenate([names.with_pictures(e.observation, e.images) for e in self.demos]),
            np.concatenate([names.with_pictures(e.observation, e.images) for e in self.run]),
            names.dimension_names(self.contract),
            floor,
        )
        yield self._saturation()
        yield critic.sensitivity(self._critic_share())

    def _saturation(self) -> Finding:
        """Ask the newest weights along the newest practice, without noise."""
        found = newest_weights(self._folder)
        practised = [e for e in self.run if e.mode in (TRAIN, EVALUATE)][-5:]
        if found is None or not practised:
            return skipped(practice.SATURATION, "no weights, or no practice with them, yet")
        residual = build_policy(self.config, self.contract, self.base)
        residual.load(found[1])
        residual.begin_episode(0, EVALUATE)
        rows = []
        for episode in practised:
            images = self._images(episode)
            for i in range(episode.steps):
                base = episode.base_action[i]
                action, _ = residual.act(
                    episode.observation[i], base, float(episode.chunk_phase[i]),
                    images=images[i] or None,
                )  # fmt: skip
                rows.append(action - base)
        reach = np.where(self.scale > 0, self.scale, 1.0)
        return practice.saturation(np.stack(rows) / reach, self.contract.joint_names, self.scale)

    def _critic_share(self) -> float | None:
        """Measure on the learner's last checkpoint."""
        checkpoints = self._folder / "checkpoints"
        if not (checkpoints / "learner.safetensors").is_file():
            return None
        seed = run_file.read(self._folder)["arguments"].get("seed", 0)
        learner = build_learner(self.config.replace(seed=seed), self.contract, self.base)
        learner.load(checkpoints)
        return critic.measure(learner)


def run(given: Mapping[str, str], as_json_text: bool) -> int:
    """Examine and print; return the exit code: 1 where a check failed.

    Raises:
        UsageError: An argument is wrong.
    """
    findings = examine(given)
    if not findings:
        raise UsageError("nothing was checked")
    print(as_json(findings) if as_json_text else as_text(findings))
    return int(any(f.failed for f in findings))
