"""A blind evaluation through all real nodes: nobody can tell who acts; a crash changes nothing."""

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.launch, pytest.mark.usefixtures("domain_id")]

for module in ("rclpy", "torch", "mujoco", "honcho", "nicegui", "scipy"):
    pytest.importorskip(module, reason=f"{module} is not installed ('make setup' installs it)")

from onlooker import Onlooker, lines_of, read_lines, signs, telling, wait_for

from resfit_bringup import checks, paths, run_dir
from resfit_bringup.graph import resolve
from resfit_core.algorithms.config import TrainConfig, resolve_scale
from resfit_core.base.checkpoint import load_base
from resfit_core.blind import seal
from resfit_core.contract import load_contract
from resfit_core.data.bag_reader import read_episode
from resfit_core.data.bags import episode_folder
from resfit_core.learner import Learner
from resfit_core.nets.views import make_view

ORDERS = ((0, 1), (1, 0), (1, 0), (0, 1), (1, 0), (0, 1), (0, 1), (1, 0))
SECRET = {"salt": "ab" * 32, "mask": "cd" * 32}  # fixed: the same run sees the same things


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """Weights of a residual that adds nothing: what it does is what the base does, to the bit.

    So whatever tells the two apart is a leak, and not the way the robot moves.
    """
    config = TrainConfig.from_yaml(paths.config_file("train", "default"))
    contract = load_contract(
        paths.config_file("robot", "vega_1"), paths.config_file("task", "woolly_ball_pnp")
    )
    base = load_base(str(paths.base_shipped("woolly_ball_pnp", "state")), contract)
    scale = resolve_scale(config.residual_scale, contract.groups())
    learner = Learner(
        config, contract.obs_dim, contract.action_dim, scale, contract.sha256, base.base_sha256,
        make_view(config.critic_view, contract, base.action_space, scale,
                  config.observe_last_action),
    )  # fmt: skip
    file = tmp_path_factory.mktemp("weights") / "still.safetensors"
    file.write_bytes(learner.weights_bytes(7))
    return file


@contextlib.contextmanager
def started(folder, *words):
    """Start `resfit run evaluate`; leave nothing running."""
    command = [sys.executable, "-m", "resfit_bringup.main", "run", "evaluate",
               f"run_dir:={folder}", "keyboard:=false", *words]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=folder.parent, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    process.said = []
    reader = threading.Thread(target=read_lines, args=(process, process.said))
    reader.start()
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=60)
        reader.join()
        process.stdout.close()


def ended(process):
    code = process.wait(timeout=240)
    assert code == 0, "\n".join(line for _, line in process.said)


@pytest.fixture(scope="module")
def watched(tmp_path_factory, still, domain_id):
    """One evaluation of base and `still` with the panel, and the onlooker's notes."""
    folder = tmp_path_factory.mktemp("watched") / "evaluation"
    given = {"run_dir": str(folder), "policies": f"base,{still}", "rounds": str(len(ORDERS))}
    plan = resolve("evaluate", given)

    def draw(policies, scenes):
        return seal.Opening(orders=ORDERS, policies=tuple(policies), scenes=tuple(scenes),
                            **SECRET)  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seal, "draw", draw)
        run_dir.open_run(plan, checks.check(plan))
    onlooker = Onlooker(domain_id, folder)
    try:
        with started(folder, "panel:=true", "panel_port:=0") as process:
            ended(process)
    finally:
        onlooker.close()
    return folder, onlooker, onlooker.seen(process.said)


def test_nobody_can_tell_who_acts(watched):
    """No field, log word, page word or count tells the policies apart beyond chance.

    What a clock says of a busy machine is left out here: it is never asserted in a test. That time
    does not depend on who acts is asserted where the policies are asked (test_blind_seal.py).
    """
    _, onlooker, features = watched
    assert {"/step", "/policy_step", "/policy_command", "/executed_command", "/episode_state",
            "/episode_recorded", "/operator_event", "/rosout", "/joint_states", "/driver_state",
            } <= set(onlooker.topics)  # fmt: skip
    assert len(onlooker.pages) > len(ORDERS)
    assert len(features) == 2 * len(ORDERS)
    found = {n: row for n, row in signs(features, ORDERS).items() if not of_a_clock(n)}
    assert len(found) > 500
    assert telling(found) == []


def test_what_is_recorded_is_alike_to_the_bit(watched):
    """Nothing may be lost in a bag: there, not even one bit depends on who acts."""
    folder, _, _ = watched
    by_place = {(x["round"], x["label"]): x["episode"] for x in lines_of(folder)}
    arrays = (
        "observation",
        "base_action",
        "chunk_phase",
        "proposed",
        "action_norm",
        "action_rad",
        "source",
        "altered",
        "reasons",
        "explored",
        "weights_version",
    )
    for number in range(1, len(ORDERS) + 1):
        first, second = (
            read_episode(episode_folder(folder / "episodes", by_place[number, label]))
            for label in "AB"
        )
        for name in arrays:
            np.testing.assert_array_equal(
                getattr(first, name), getattr(second, name), err_msg=f"round {number}: {name}"
            )
        assert (first.seed, first.use_residual) == (second.seed, second.use_residual)
        assert not first.weights_version.any()


def of_a_clock(name):
    """Return whether something depends on how fast the machine was."""
    measured = ("_age_s", "loop_stats", "wait_s", "sha256", ".sent", "/rosout.", "/driver_state.")
    words = ("/rosout.msg all", "/driver_state.mode all", "/driver_state.reason all")
    return any(part in name for part in measured) and not name.startswith(words)


def plant(features, change):
    """Return features with a change at every episode in which the second policy acts."""
    planted = copy.deepcopy(features)
    for (number, label), found in planted.items():
        if ORDERS[number - 1]["AB".index(label)] == 1:
            change(found)
    return planted


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.update({"/step.weights_version mean": 7.0}),
        lambda f: f.update({"/episode_state.use_residual last": False}),
        lambda f: f.update({"/step.action_norm lengths": (28,)}),
        lambda f: f.update({"residual: weights": True}),
        lambda f: f.update({"/joint_states.header.frame_id count": 10**6}),
        lambda f: f.pop("page: blind"),
    ],
    ids=["version", "flag", "length", "log word", "count", "page word"],
)
def test_the_onlooker_would_see_a_leak(watched, change):
    _, _, features = watched
    assert telling(signs(plant(features, change), ORDERS))


def test_the_base_s_action_is_on_no_topic(watched):
    _, _, features = watched
    for name, wanted in (
        ("/policy_step.base_action_norm lengths", (0,)),
        ("/step.base_action_norm lengths", (0,)),
        ("/step.base_action_sealed lengths", (4 * 29,)),
    ):
        seen = [found[name] for found in features.values() if name in found]
        assert len(seen) >= len(features) - 2  # this reader may come late to the first ones
        assert set(seen) == {wanted}


def test_the_opened_seal_holds_and_the_rounds_were_matched(watched):
    """Both policies do the same here: in a matched round they must end alike, step for step."""
    folder, _, _ = watched
    report = json.loads((folder / "evaluation.json").read_text())
    assert report["seal"]["verified"]
    (pair,) = report["pairs"]
    assert (pair["first_only"], pair["second_only"]) == (0, 0)
    for number in report["rounds"]:
        first, second = number["runs"]
        assert (first["ended_by"], first["steps"]) == (second["ended_by"], second["steps"])
    assert [tuple(run["policy"] == "base" for run in n["runs"]) for n in report["rounds"]] == [
        (order[0] == 0, order[1] == 0) for order in ORDERS
    ]


def test_a_crash_and_a_stop_in_the_middle_change_nothing(tmp_path, still):
    folder = tmp_path / "evaluation"
    words = (f"policies:=base,{still}", "rounds:=3")
    with started(folder, *words) as process:
        assert wait_for(lambda: len(lines_of(folder)) >= 1 or process.poll() is not None)
        kill(folder, "episode_manager")
        assert wait_for(lambda: len(lines_of(folder)) >= 3 or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130, process.said
    sha256 = seal.read_commitment(folder / "seal").sha256
    assert not seal.is_open(folder / "seal")
    before = lines_of(folder)
    with started(folder) as process:
        ended(process)
    assert seal.read_commitment(folder / "seal").sha256 == sha256
    assert lines_of(folder)[: len(before)] == before
    counted = [x for x in lines_of(folder) if x["ended_by"] != "aborted"]
    assert [(x["round"], x["label"]) for x in counted] == [
        (n, label) for n in (1, 2, 3) for label in "AB"
    ]
    assert json.loads((folder / "evaluation.json").read_text())["seal"]["verified"]


def kill(folder, name):
    """Kill one node of a run as a crash would."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            words = file.read_bytes().decode(errors="replace").split("\0")
            if f"__node:={name}" in words and any(str(folder) in w for w in words):
                os.kill(int(file.parent.name), signal.SIGKILL)
