"""A blind evaluation's folder: where it lies, who competes in it, its seal and its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from resfit_bringup import run_file
from resfit_bringup.arguments import Argument
from resfit_bringup.errors import UsageError
from resfit_core import tensorfile
from resfit_core.blind import seal
from resfit_core.blind.rounds import StopRule, complete
from resfit_core.blind.sealed_policy import policy_file
from resfit_core.run_log import read_episodes
from resfit_core.seeds import episode_seed
from resfit_core.weights import newest_version, weights_path

if TYPE_CHECKING:
    from resfit_bringup.graph import Plan

POLICIES = Argument(
    "policies", "base,residual:latest", "who competes, by commas: base, residual:latest, "
    "residual:<version>, or a .safetensors file of weights",
)  # fmt: skip
ROUNDS = Argument("rounds", 20, "rounds; in each one every policy runs once, blind", least=1)
FIRST_SCENE = Argument(
    "first_scene", 0, "evaluation scene of the first round; the training's report has 0 to 199",
    least=0,
)  # fmt: skip
STOP_EARLY = Argument(
    "stop_early", False, "true: end when enough rounds were run (sequential test at 5 %)"
)
AUTO_START = Argument(
    "auto_start", True, "false: run and scenes wait for a person's word; the panel lays the "
    "round's first scene over the camera", kept=False,
)  # fmt: skip
ARGUMENTS = (POLICIES, ROUNDS, FIRST_SCENE, STOP_EARLY, AUTO_START)

JOB = "evaluate"
FIXED = ("arguments.policies", "arguments.rounds", "arguments.first_scene")
_RESIDUAL = "residual"


def place(asked: Path, values: Mapping[str, Any]) -> tuple[Path, Path]:
    """Return the evaluation's folder, and the run whose arguments it takes over.

    Of a training run: `evaluations/001` and so on below it; the newest one goes on where it is
    sealed still and the same is asked for.

    Args:
        asked: `run_dir:=` as it was given.
        values: The arguments' values, defaults included.

    Raises:
        UsageError: The evaluation in the folder was opened.
    """
    if not (asked / run_file.NAME).exists():
        return asked, asked
    if _is_evaluation(asked):
        if seal.is_open(asked / seal.FOLDER):
            raise UsageError(
                f"run_dir:={asked}: the seal was opened, no round can be blind any more; give the "
                "training run's folder to start a new evaluation"
            )
        return asked, asked
    folder = asked / "evaluations"
    numbers = [int(p.name) for p in folder.glob("[0-9][0-9][0-9]") if (p / run_file.NAME).exists()]
    newest = folder / f"{max(numbers, default=0):03d}"
    if numbers and not seal.is_open(newest / seal.FOLDER):
        before = run_file.read(newest)["arguments"]
        wanted = {name: values[name] for name in ("policies", "rounds", "first_scene")}
        if all(before.get(name) == value for name, value in wanted.items()):
            return newest, newest
    return folder / f"{max(numbers, default=0) + 1:03d}", asked


def competitors(plan: Plan) -> list[tuple[seal.Policy, bytes]]:
    """Return who is named in `policies:=`, with the bytes of their weights.

    Raises:
        UsageError: One is unknown, missing, damaged or named twice; or there are too few.
    """
    source = Path(plan.values["source"])
    found = [_competitor(word.strip(), source) for word in plan.values["policies"].split(",")]
    names = [policy.name for policy, _ in found]
    if len(set(names)) < len(names) or not 2 <= len(names) <= len(seal.LABELS):
        raise UsageError(
            f"policies:={plan.values['policies']}: two or more different ones are needed, found "
            f"{', '.join(names)}"
        )
    return found


def _competitor(word: str, source: Path) -> tuple[seal.Policy, bytes]:
    if word == seal.BASE:
        return seal.Policy(word), b""
    if word.endswith(".safetensors"):
        file, name = Path(word).resolve(), word
    else:
        kind, _, version = word.partition(":")
        if kind != _RESIDUAL or not (version in ("", "latest") or version.isdigit()):
            raise UsageError(
                f"policies:=…{word}: give base, residual:latest, residual:<version> or a "
                ".safetensors file"
            )
        number = int(version) if version.isdigit() else newest_version(source)
        if not number:
            raise UsageError(
                f"policies:=…{word}: '{source}' holds no weights; give run_dir:=<training run>"
            )
        file, name = weights_path(source, number), f"{_RESIDUAL}:{number}"
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"policies:=…{word}: {file}: {error.strerror}") from error
    return seal.Policy(name, tensorfile.sha256(data)), data


def check(plan: Plan, hashes: Mapping[str, str]) -> None:
    """Check the competitors of an evaluation that has no seal yet; write nothing.

    Raises:
        UsageError: One cannot be had, or belongs to another contract or base.
    """
    if _is_sealed(plan):
        return
    for policy, data in competitors(plan):
        if not policy.sha256:
            continue
        try:
            _, header = tensorfile.unpack(data, f"policies:=…{policy.name}")
        except tensorfile.TensorFileError as error:
            raise UsageError(str(error)) from error
        for key in ("contract_sha256", "base_sha256"):
            if hashes.get(key) and header.get(key) != hashes[key]:
                raise UsageError(
                    f"policies:=…{policy.name}: {key} is {str(header.get(key))[:12]}, this "
                    f"evaluation's is {hashes[key][:12]}: give its own robot, task and base"
                )


def close(plan: Plan) -> None:
    """Copy the competitors and seal the order, where that was not done already."""
    if _is_sealed(plan):
        return
    folder, values = Path(plan.values["run_dir"]), plan.values
    found = competitors(plan)
    for index, (policy, data) in enumerate(found):
        if policy.sha256:
            tensorfile.write_atomic(policy_file(folder, index), data)
    scenes = [episode_seed("evaluate", values["first_scene"] + i) for i in range(values["rounds"])]
    seal.close(folder / seal.FOLDER, seal.draw([policy for policy, _ in found], scenes))


def episodes(plan: Plan) -> int:
    """Return how many episodes an evaluation plans."""
    return plan.values["rounds"] * len(plan.values["policies"].split(","))


def finish(folder: Path, console: Console, *, now: bool = False) -> bool:
    """Open the seal where the evaluation is done, and report.

    Args:
        folder: Of the evaluation.
        console: Where it is said.
        now: Open it although rounds are missing.

    Returns:
        False where the seal was opened and does not hold.

    Raises:
        UsageError: Seal or records are missing or damaged.
    """
    from resfit_core.blind import report

    where = folder / seal.FOLDER
    try:
        commitment = seal.read_commitment(where)
        lines = read_episodes(folder / "episodes.jsonl")
        done, planned = len(complete(commitment, lines)), len(commitment.scenes)
        ended = done == planned or now or seal.is_open(where)
        if not ended and not StopRule(seal.read_sealed(where), lines).enough:
            console.print(
                f"sealed: {done} of {planned} rounds are complete; go on with "
                f"'resfit run evaluate run_dir:={folder}', or end it for good with "
                f"'resfit reveal {folder}'",
                markup=False,
            )
            return True
        seal.reveal(where)
        content = report.write_report(folder)
    except ValueError as error:  # all our typed errors are
        raise UsageError(str(error)) from error
    console.print(report.lead(content), markup=False)
    console.print(f"report: {folder / report.HTML_FILE}", markup=False)
    return content["seal"]["verified"]


def verify(folder: Path, console: Console) -> bool:
    """Say of each check whether it holds; return whether all do.

    Raises:
        UsageError: There is no opened seal.
    """
    from resfit_core.blind.verify import verify as checks_of

    try:
        checks = checks_of(folder)
    except ValueError as error:
        raise UsageError(str(error)) from error
    for c in checks:
        console.print(f"{'holds' if c.ok else 'BROKEN'}: {c.what} ({c.found})", markup=False)
    return all(c.ok for c in checks)


def is_evaluation(folder: Path) -> bool:
    """Return whether a folder holds a blind evaluation."""
    return (folder / run_file.NAME).exists() and _is_evaluation(folder)


def _is_evaluation(folder: Path) -> bool:
    return run_file.read(folder).get("job") == JOB


def _is_sealed(plan: Plan) -> bool:
    return (Path(plan.values["run_dir"]) / seal.FOLDER / seal.COMMITMENT).exists()
