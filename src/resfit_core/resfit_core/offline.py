"""Train from recorded bags alone, without robot or nodes (docs/data.md).

    python -m resfit_core.offline --bags runs/a,runs/b --robot vega_1.yaml --task task.yaml \
        --base base.safetensors --train-config default.yaml --out runs/offline

`resfit offline bags:=runs/a,runs/b` does the same into a run that other jobs go on with.
Exit code 0: done; 1: learning diverged; 2: an input cannot be used, one line says which and why.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from resfit_core import tensorfile
from resfit_core.algorithms.config import TrainConfig
from resfit_core.base.checkpoint import load_base
from resfit_core.base.protocol import BasePolicy
from resfit_core.base.relabel import relabel
from resfit_core.build import build_learner
from resfit_core.contract import Contract, load_contract
from resfit_core.data.bag_reader import read_episode
from resfit_core.data.bags import read_manifest
from resfit_core.data.episode import DEMO, EVALUATE, Episode
from resfit_core.learner import Learner, LearnerError
from resfit_core.playing.bags import find_episodes
from resfit_core.weights import newest_version, save_weights

REPORT = "offline.json"
_SLICE_S = 1.0
_SAVE_S = 60.0

Say = Callable[[str], None]
Advance = Callable[[str, int, int], None]  # what, done, all


@dataclasses.dataclass
class Filled:
    """What the bags gave: episodes taken in, and those left out."""

    demos: int = 0
    episodes: int = 0
    evaluations: int = 0
    left_out: int = 0


def fill(
    learner: Learner,
    base: BasePolicy,
    contract: Contract,
    bags: str,
    demos: str = "",
    say: Say = lambda text: None,
    advance: Advance = lambda what, done, total: None,
) -> Filled:
    """Put recorded episodes into the learner's buffers, as a run puts them there.

    Of one run with its demonstrations the buffers are those of the learner node, by hash. Episodes
    of a second run get new numbers. Those that another base acted in are relabelled.

    Args:
        learner: Takes them; what it has seen already is passed over.
        base: Frozen.
        contract: Of the bags as well.
        bags: As `find_episodes` takes it; demonstrations among them join the demo half.
        demos: Likewise, before all others; empty: none.
        say: Told of each episode that is left out.
        advance: Told how far it is.

    Raises:
        BagError: No episode is there, or one cannot be read.
        ContractError: One was recorded under another contract.
    """
    filled, taken = Filled(), _Numbers()
    paths = [*(find_episodes(demos) if demos else ()), *find_episodes(bags)]
    for done, path in enumerate(paths, 1):
        manifest = read_manifest(path)
        if not manifest.complete:
            filled.left_out += 1
            say(f"left out: {path}: {manifest.reason or 'not complete'}")
            continue
        recorded = read_episode(path)
        if manifest.mode == DEMO or recorded.base_sha256 != base.base_sha256:
            episode = relabel(recorded, base, contract)
        else:
            episode = recorded.to_episode(contract)
        episode = taken.renumbered(episode, path.resolve().parent)
        if manifest.mode == DEMO:
            filled.demos += learner.add_demos([episode])
            if not episode.success:
                filled.left_out += 1
                say(f"left out: {path}: a demonstration that failed")
        elif learner.add_episode(episode):
            filled.evaluations += manifest.mode == EVALUATE
            filled.episodes += manifest.mode != EVALUATE
        advance("reading bags", done, len(paths))
    return filled


class _Numbers:
    """Keeps the numbers of episodes of different folders apart."""

    def __init__(self) -> None:
        self._owner: dict[tuple[bool, int], Path] = {}

    def renumbered(self, episode: Episode, folder: Path) -> Episode:
        """Return the episode, under a new number where another folder has its own."""
        owner = self._owner.setdefault(episode.key, folder)
        if owner == folder:
            return episode
        demo = episode.key[0]
        free = max(number for kind, number in self._owner if kind == demo) + 1
        self._owner[demo, free] = folder
        return episode.replace(episode=free)


def train(
    learner: Learner,
    out: Path,
    updates: int = 0,
    advance: Advance = lambda what, done, total: None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Do the updates, saving on the way; return the last metrics.

    Args:
        learner: With filled buffers.
        out: Folder of the run: `checkpoints/` and `weights/` are written there.
        updates: Critic updates in all, those of a loaded checkpoint included; 0: as many as the
            settings' update-to-data ratio owes for the steps that are there.
        advance: Told how far it is.
        clock: Of the saving [s].

    Raises:
        LearnerError: It diverged, or there is nothing to learn.
    """
    total = updates or learner.updates + learner.updates_owed
    if not (len(learner.replay.demos) or len(learner.replay.online)):
        raise LearnerError("the bags hold no step to learn from; give others")
    if total <= learner.updates:
        raise LearnerError(
            f"no update is owed: {learner.updates} are done, {learner.episodes} episodes are in "
            f"and {learner.config.warmup_episodes} are the warm-up; give updates, or more bags"
        )
    metrics: dict[str, Any] = {}
    saved_s = clock()
    while learner.updates < total:
        metrics = learner.train(
            max_updates=total - learner.updates, max_seconds=_SLICE_S, budgeted=False
        )
        advance("training", learner.updates, total)
        if clock() - saved_s > _SAVE_S:
            learner.save(out / "checkpoints")
            saved_s = clock()
    learner.save(out / "checkpoints")
    version = newest_version(out) + 1
    save_weights(out, version, learner.weights_bytes(version))
    return {**metrics, "weights_version": version}


def run(
    out: Path,
    contract: Contract,
    base: BasePolicy,
    config: TrainConfig,
    bags: str,
    demos: str = "",
    updates: int = 0,
) -> dict[str, Any]:
    """Fill, train and report; go on where `out` holds a checkpoint."""
    learner = build_learner(config, contract, base)
    if (out / "checkpoints" / "learner.safetensors").exists():
        learner.load(out / "checkpoints")
    begin = time.monotonic()
    with _Bar() as bar:
        filled = fill(learner, base, contract, bags, demos, bar.say, bar.advance)
        read_s = time.monotonic() - begin
        before = learner.updates
        metrics = train(learner, out, updates, bar.advance)
    seconds = time.monotonic() - begin - read_s
    found = {
        **dataclasses.asdict(filled),
        "steps": len(learner.replay.online),
        "demo_steps": len(learner.replay.demos),
        "buffer_sha256": learner.replay.sha256(),
        "updates": learner.updates,
        "read_s": round(read_s, 3),
        "train_s": round(seconds, 3),
        "updates_per_s": round((learner.updates - before) / max(seconds, 1e-9), 1),
        "metrics": {k: v for k, v in metrics.items() if k != "updates"},
    }
    tensorfile.write_atomic(out / REPORT, (json.dumps(found, indent=1) + "\n").encode())
    print(
        f"offline: episodes={filled.episodes} demos={filled.demos} "
        f"steps={found['steps'] + found['demo_steps']} updates={learner.updates} "
        f"updates_per_s={found['updates_per_s']} buffer={learner.replay.sha256()[:12]} ({out})"
    )
    return found


class _Bar:
    """A progress bar where rich is installed, else silence; words go to stderr."""

    def __enter__(self) -> _Bar:
        self._tasks: dict[str, Any] = {}
        self._progress: Any = None
        try:
            from rich.console import Console
            from rich.progress import Progress
        except ImportError:  # rich is an extra
            return self
        self._progress = Progress(console=Console(stderr=True))
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def say(self, text: str) -> None:
        """Print one line, above the bar."""
        if self._progress is None:
            print(text, file=sys.stderr)
        else:
            self._progress.console.print(text, markup=False, highlight=False)

    def advance(self, what: str, done: int, total: int) -> None:
        """Move the bar called `what`."""
        if self._progress is None:
            return
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m resfit_core.offline", description=__doc__)
    parser.add_argument("--bags", required=True, help="runs or folders of episodes, by commas")
    parser.add_argument("--demos", default="", help="demonstrations; empty: none")
    parser.add_argument("--robot", required=True, type=Path, help="robot YAML")
    parser.add_argument("--task", required=True, type=Path, help="task YAML")
    parser.add_argument("--observation", default="state", help="the task's observation variant")
    parser.add_argument("--base", required=True, help="frozen base policy")
    parser.add_argument("--train-config", type=Path, help="learning settings YAML")
    parser.add_argument("--updates", type=int, default=0, help="in all; 0: what the steps owe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, type=Path, help="folder for the results")
    given = parser.parse_args(argv)
    try:
        contract = load_contract(given.robot, given.task, given.observation)
        config = TrainConfig.from_yaml(given.train_config) if given.train_config else TrainConfig()
        base = load_base(given.base, contract)
        run(
            given.out, contract, base, config.replace(seed=given.seed),
            given.bags, given.demos, given.updates,
        )  # fmt: skip
    except LearnerError as error:
        print(f"offline: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:  # all our typed errors are ValueErrors
        print(f"offline: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
