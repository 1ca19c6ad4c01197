"""The seal: committed, hidden, opened, and what a forger would have to forge."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed ('make setup' installs it)")
pytest.importorskip("scipy", reason="scipy is not installed ('make setup' installs it)")

from bag_maker import START_NS, state_bytes, vega_contract, write_demo

from resfit_core import tensorfile
from resfit_core.blind import report, seal
from resfit_core.blind.mask import Mask
from resfit_core.blind.rounds import StopRule, by_policy, complete
from resfit_core.blind.seal import Opening, Policy, SealError
from resfit_core.blind.sealed_policy import (
    SealedPolicy,
    SealedTick,
    load_policies,
    policy_file,
)
from resfit_core.blind.verify import verify
from resfit_core.control.plan import Slot, blind_plan, remaining
from resfit_core.control.records import EndedBy, EpisodeState, Mode, Phase
from resfit_core.data.bag_reader import read_episode
from resfit_core.data.closing import reopen
from resfit_core.run_log import EpisodeLine


class Spy:
    """A competitor that adds its offset to the base's action and counts."""

    version = 0

    def __init__(self, offset=0.0):
        self.offset, self.acted = offset, 0

    def load(self, data, sha256=None):
        return 0

    def begin_episode(self, seed, mode, use_residual=True):
        assert mode == Mode.EVALUATE and use_residual

    def act(self, observation, base_action, chunk_phase):
        self.acted += 1
        return base_action + self.offset, False


def tick(stamp, episode):
    return SimpleNamespace(
        stamp_ns=stamp, episode=episode, is_last=False, chunk_phase=0.0,
        observation=np.zeros(1), base_action=np.zeros(1), images={},
    )  # fmt: skip


WEIGHTS = tensorfile.pack({}, {"version": 7})
POLICIES = (Policy("base"), Policy("residual:7", tensorfile.sha256(WEIGHTS)))
SCENES = (11, 22, 33)


def line(episode, number, label, success=True, steps=5, ended_by=None):
    return EpisodeLine(
        episode, "evaluate", True, SCENES[number - 1],
        ended_by or ("success" if success else "failure"),
        success, steps, 0.0, 1.0, round=number, label=label,
    )  # fmt: skip


def state(number, label, phase=Phase.RUNNING, ended_by=EndedBy.NONE, sha256=""):
    return EpisodeState(
        phase, episode=2 * number + (label == "B"), mode=Mode.EVALUATE, seal=sha256,
        round=number, label=label, ended_by=ended_by,
    )  # fmt: skip


def opening_of(*orders):
    return Opening("ab" * 32, orders, POLICIES, SCENES[: len(orders)], "cd" * 32)


# --- commitment ----------------------------------------------------------------------------------


def test_a_seal_says_nothing_and_opens_to_what_was_committed(tmp_path):
    opening = seal.draw(POLICIES, SCENES)
    commitment = seal.close(tmp_path, opening)
    assert seal.read_commitment(tmp_path) == commitment == opening.commitment
    public = (tmp_path / seal.COMMITMENT).read_text()
    assert opening.salt not in public and "orders" not in public
    assert opening.salt.encode() not in (tmp_path / seal.SEALED).read_bytes()
    assert seal.read_sealed(tmp_path) == opening
    with pytest.raises(SealError, match=r"opened\.json"):
        seal.read_opened(tmp_path)
    assert seal.reveal(tmp_path) == seal.read_opened(tmp_path) == opening


def test_orders_are_drawn_evenly():
    """Each of six orders of three policies, 600 rounds: within five standard deviations."""
    three = (*POLICIES, Policy("residual:8", "e" * 64))
    orders = seal.draw(three, range(600)).orders
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6 and all(abs(n - 100) < 46 for n in counts)


def test_the_salt_hides_the_order_from_who_tries_them_all():
    """The commitment of a few rounds could be guessed by hashing every order, but for the salt."""
    one, two = seal.draw(POLICIES, SCENES), seal.draw(POLICIES, SCENES)
    same = dataclasses.replace(two, orders=one.orders, mask=one.mask)
    assert one.commitment.sha256 != same.commitment.sha256


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"x"], ids=["empty", "zeros", "one byte"])
def test_a_damaged_seal_is_refused(tmp_path, damage):
    seal.close(tmp_path, seal.draw(POLICIES, SCENES))
    (tmp_path / seal.SEALED).write_bytes(damage)
    with pytest.raises(SealError, match=r"sealed\.bin"):
        seal.read_sealed(tmp_path)


def test_orders_must_hold_every_policy_once():
    with pytest.raises(SealError, match="round 1"):
        opening_of((0, 0))
    with pytest.raises(SealError, match="2 to 26"):
        Opening("ab", ((0,),), POLICIES[:1], (1,), "cd")


# --- verification --------------------------------------------------------------------------------


@pytest.fixture
def evaluation(tmp_path):
    """An opened evaluation of one round, with log, recordings and weights; returns its folder."""
    opening = opening_of((1, 0))
    commitment = seal.close(tmp_path / "seal", opening)
    policy_file(tmp_path, 1).parent.mkdir()
    policy_file(tmp_path, 1).write_bytes(WEIGHTS)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "residual_policy.log").write_text(f"[INFO] {commitment.said}\n")
    lines = [line(1, 1, "A", steps=2), line(2, 1, "B", success=False, steps=2)]
    (tmp_path / "episodes.jsonl").write_text(
        "".join(json.dumps(dataclasses.asdict(x)) + "\n" for x in lines)
    )
    (tmp_path / "run.json").write_text('{"run_id": "e", "task": "t", "robot": "r"}')
    mask = Mask(bytes.fromhex(opening.mask))
    for x in lines:
        record(tmp_path, x, commitment.sha256, mask)
    seal.reveal(tmp_path / "seal")
    return tmp_path


def record(folder, x, sha256, mask):
    """Write the bag of an episode as the recorder does, the base's action hidden."""
    contract = vega_contract()
    action = np.full((2, contract.action_dim), 0.25, np.float32)
    said = {"seal": sha256, "round": x.round, "label": x.label, "episode": x.episode}
    write_demo(
        folder / "episodes", contract, np.zeros((3, contract.obs_dim)), action, action,
        episode=x.episode, success=x.success, mode=2, use_residual=True, seed=x.seed, mask=mask,
        extra=[("episode_state", START_NS + n, state_bytes(START_NS + n, **said)) for n in (0, 1)],
    )  # fmt: skip


def broken(folder):
    return [c.what for c in verify(folder) if not c.ok]


def forge(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_what_was_not_touched_holds(evaluation):
    assert broken(evaluation) == []
    written = report.write_report(evaluation)
    assert written["seal"]["verified"]
    assert [(p["name"], p["success"]) for p in written["policies"]] == [
        ("base", 0.0), ("residual:7", 1.0)
    ]  # fmt: skip
    page = (evaluation / report.HTML_FILE).read_text()
    assert "BROKEN" not in page and written["seal"]["commitment"] in page


def test_base_actions_can_be_read_once_the_seal_is_open(evaluation):
    path = evaluation / "episodes" / "episode_000001"
    read = read_episode(path)
    assert not read.sealed
    np.testing.assert_array_equal(read.base_action[:-1], read.proposed)
    (evaluation / "seal" / seal.OPENED).unlink()
    read = read_episode(path)
    assert read.sealed and read.steps == 2 and np.isnan(read.base_action).all()
    closed = reopen(evaluation, 1, vega_contract())
    assert closed.manifest.complete and closed.payload == b""


def test_a_forged_order_is_found(evaluation):
    def swap(content):
        content["opening"]["orders"] = [[0, 1]]

    forge(evaluation / "seal" / seal.OPENED, swap)
    assert broken(evaluation) == ["salt and order hash to the commitment"]
    assert not report.write_report(evaluation)["seal"]["verified"]
    assert "BROKEN" in (evaluation / report.HTML_FILE).read_text()


def test_a_forged_order_with_a_forged_commitment_is_found(evaluation):
    """The forger draws a whole new seal: logs and recordings still name the old one."""
    folder = evaluation / "seal"
    (folder / seal.OPENED).unlink()
    seal.close(folder, opening_of((0, 1)))
    seal.reveal(folder)
    assert broken(evaluation) == [
        "the nodes' logs name this commitment",
        "every recorded episode carries this commitment",
    ]


def test_forged_verdicts_scenes_recordings_and_weights_are_found(evaluation):
    text = (evaluation / "episodes.jsonl").read_text()
    (evaluation / "episodes.jsonl").write_text(text.replace('"seed": 11', '"seed": 12'))
    bag = next((evaluation / "episodes").rglob("*.mcap"))
    bag.write_bytes(bag.read_bytes()[:-1])
    policy_file(evaluation, 1).write_bytes(WEIGHTS + b" ")
    assert broken(evaluation) == [
        "every verdict belongs to a round, label and scene of the seal",
        "every recorded episode carries this commitment",
        "the weights are those that were sealed",
    ]


# --- who acts ------------------------------------------------------------------------------------


def test_everybody_is_asked_at_every_tick_and_one_answer_is_taken():
    opening = opening_of((0, 1), (1, 0))
    spies = [Spy(), Spy(0.25)]
    acting = SealedTick(SealedPolicy(opening, spies))
    sha256 = opening.commitment.sha256
    answers = []
    for number, label in ((1, "A"), (1, "B"), (2, "A"), (2, "B")):
        now = state(number, label, sha256=sha256)
        acting.on_state(now)
        answers.append(acting.on_tick(tick(100 * now.episode, now.episode)))
        assert spies[0].acted == spies[1].acted == len(answers)
    assert [float(a.action[0]) for a in answers] == [0.0, 0.25, 0.25, 0.0]
    assert {a.weights_version for a in answers} == {0}


def test_a_policy_acts_for_no_other_seal():
    opening = opening_of((0, 1))
    acting = SealedTick(SealedPolicy(opening, [Spy(), Spy()]))
    acting.on_state(state(1, "A", sha256="f" * 64))
    with pytest.raises(SealError, match="of seal 'ffffffffffff'"):
        acting.on_tick(tick(100, 2))
    acting = SealedTick(SealedPolicy(opening, [Spy(), Spy()]))
    acting.on_state(state(2, "A", sha256=opening.commitment.sha256))
    with pytest.raises(SealError, match="rounds 1 to 1"):
        acting.on_tick(tick(100, 4))


def test_weights_that_were_not_sealed_do_not_act(tmp_path):
    policy_file(tmp_path, 1).parent.mkdir()
    policy_file(tmp_path, 1).write_bytes(b"others")
    with pytest.raises(SealError, match="not the weights that were sealed as 'residual:7'"):
        load_policies(tmp_path, opening_of((0, 1)), Spy)


def test_the_mask_gives_back_the_bits_and_hides_equal_actions():
    mask, action = Mask(b"k" * 32), np.array([0.5, -1.0, np.float32(1e-8)], np.float32)
    hidden = mask.hide(action, 7, 1, 2)
    np.testing.assert_array_equal(mask.show(hidden, 7, 1, 2), action)
    others = [mask.hide(action, 8, 1, 2), Mask(b"o" * 32).hide(action, 7, 1, 2)]
    assert len({hidden, action.tobytes(), *others}) == 4


# --- rounds --------------------------------------------------------------------------------------


def test_a_plan_goes_on_at_the_right_place():
    slots = blind_plan(SCENES, "AB")
    assert slots[0] == Slot(Mode.EVALUATE, True, 11, 1, "A")
    assert [(s.round, s.label) for s in remaining(slots, slots[:3])] == [
        (2, "B"), (3, "A"), (3, "B")
    ]  # fmt: skip


def test_only_complete_rounds_count():
    opening = opening_of((1, 0), (0, 1), (1, 0))
    lines = [
        line(1, 1, "A"), line(2, 1, "B", ended_by="aborted"), line(3, 1, "B", success=False),
        line(4, 2, "A", success=False), line(5, 3, "A"),
    ]  # fmt: skip
    assert complete(opening.commitment, lines) == [1]
    base, residual = by_policy(opening, lines)
    assert ([x.episode for x in base], [x.episode for x in residual]) == ([3], [1])
    undone = [*lines, dataclasses.replace(lines[2], ended_by="aborted", revision=1)]
    assert complete(opening.commitment, undone) == []


def test_the_stop_rule_speaks_once_and_only_between_rounds():
    rounds = 12
    opening = Opening("ab", ((0, 1), (1, 0)) * (rounds // 2), POLICIES, tuple(range(rounds)), "cd")
    rule, said = StopRule(opening), []
    for number in range(1, rounds + 1):
        for label in "AB":
            won = opening.acts(number, label) == 1
            ended = EndedBy.SUCCESS if won else EndedBy.FAILURE
            if rule.hear(state(number, label, Phase.ENDED, ended)):
                said.append((number, label))
    assert said == [(8, "B")]  # 2^8 / 9 is the first above 20
    for number in range(1, 6):  # undone: their rounds count no more, seven are left
        rule.hear(state(number, "A", Phase.ENDED, EndedBy.ABORTED))
    assert rule.enough == 0
