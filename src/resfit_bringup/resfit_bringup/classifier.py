"""`resfit train-classifier`: from recorded episodes to a file that presses success when sure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resfit_bringup import graph, paths
from resfit_bringup.arguments import Argument, parse_all
from resfit_bringup.errors import UsageError
from resfit_core import machine
from resfit_core.classifier import train
from resfit_core.classifier.watch import Thresholds
from resfit_core.contract import load_contract
from resfit_core.control.records import EndedBy
from resfit_core.data.bag_reader import read_episode
from resfit_core.data.bags import list_episodes
from resfit_core.tensorfile import write_atomic

_LIMITS = Thresholds()
ARGUMENTS = (
    graph.ROBOT,
    graph.TASK,
    Argument("observation", "pixels", "observation variant of the episodes; must have pictures"),
    Argument("episodes", "", "folder of recorded episodes, successes and failures; required"),
    Argument("out", "success.safetensors", "file to write; the figures go to <out>.json"),
    Argument("steps", train.Settings.steps, "optimiser steps", least=1),
    Argument("held_out", train.Settings.held_out, "one episode of so many is held out", least=2),
    Argument("press_at", _LIMITS.press_at, "probability from which success is pressed", least=0),
    Argument("ask_at", _LIMITS.ask_at, "probability from which the operator is asked", least=0),
    Argument("seed", 0, "of weights and batches", least=0),
)


def run(given: Mapping[str, str]) -> int:
    """Train, measure on the episodes held out, write file and figures; return the exit code.

    Raises:
        UsageError: An argument is wrong, or the episodes will not do.
    """
    values = parse_all(ARGUMENTS, given, "train-classifier")
    if not values["episodes"]:
        raise UsageError("episodes:=<folder> is needed, e.g. that of a run with pixels")
    try:
        found = make(values)
    except ValueError as error:  # our typed errors name value and fix
        raise UsageError(str(error)) from error
    print(summary(found))
    return 0


def make(values: Mapping[str, Any]) -> dict[str, Any]:
    """Do it; return the figures that were written."""
    contract = load_contract(
        paths.config_file("robot", values["robot"]),
        paths.config_file("task", values["task"]),
        values["observation"],
    )
    folder, out = Path(values["episodes"]), Path(values["out"])
    films = []
    for path in list_episodes(folder):
        episode = read_episode(path)
        contract.require(episode.contract_sha256, f"episode {path}")
        if episode.verdict.ended_by != EndedBy.ABORTED:
            films.append(train.film(episode))
    machine.prepare(1)  # the same files give the same net
    settings = train.Settings(
        steps=values["steps"], held_out=values["held_out"], seed=values["seed"]
    )
    learn, held = train.split(films, settings.held_out)
    print(f"learns from {len(learn)} episodes, {len(held)} are held out", flush=True)
    made = train.train(
        learn, contract, settings, Thresholds(values["press_at"], values["ask_at"]), _said
    )
    made.save(out)
    measured = train.measure(made, held, settings.tail + settings.margin)
    found = {
        "task": contract.task,
        "contract_sha256": contract.sha256,
        "learned_from": len(learn),
        "held_out": measured.to_dict(),
        "thresholds": dataclasses.asdict(made.thresholds),
        "settings": dataclasses.asdict(settings),
    }
    write_atomic(out.with_suffix(".json"), (json.dumps(found, indent=2) + "\n").encode())
    print(f"wrote {out} and {out.with_suffix('.json')}")
    return found


def summary(found: Mapping[str, Any]) -> str:
    """Return the line that says how good it is."""
    held = found["held_out"]
    keys = ("precision", "recall", "wrong", "asked", "asked_in_vain", "missed", "successes")
    told = " ".join(f"{key}={held[key]}" for key in keys)
    return f"classifier: {told} episodes={held['episodes']}"


def _said(step: int, steps: int, value: float) -> None:
    print(f"step {step} of {steps}: loss {value:.4f}", flush=True)
