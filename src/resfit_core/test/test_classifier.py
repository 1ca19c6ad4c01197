"""The success classifier: when it presses, what it learns, and the file it is kept in."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed ('make setup' installs it)")
from bag_maker import vega_contract

from resfit_core.classifier.net import Classifier, ClassifierError, SuccessNet, load
from resfit_core.classifier.train import Film, Measured, Settings, measure, split, train
from resfit_core.classifier.watch import SuccessWatch, Thresholds, WatchError, Word
from resfit_core.contract import ContractError

SIZE = 84


@pytest.fixture(scope="module", name="contract")
def _contract():
    return vega_contract("pixels")


def watched(*probabilities, **limits):
    watch = SuccessWatch(Thresholds(**limits))
    return [watch.look(p).value for p in probabilities]


def test_presses_once_when_it_is_sure_for_long_enough():
    assert watched(0.1, 0.95, 0.2, 0.95, 0.95, 0.99) == [
        "nothing", "nothing", "nothing", "nothing", "press", "nothing"
    ]  # fmt: skip


def test_asks_when_it_is_unsure_and_never_in_between():
    assert watched(0.3, 0.6, 0.7, 0.95, 0.95) == ["nothing", "nothing", "ask", "ask", "press"]
    assert watched(0.95, hold=1) == ["press"]


def test_every_episode_begins_anew():
    watch = SuccessWatch(Thresholds())
    assert [watch.look(0.95), watch.look(0.95)][-1] == Word.PRESS
    watch.begin()
    assert watch.look(0.95) == Word.NOTHING  # the last episode's picture does not count
    assert watch.look(0.95) == Word.PRESS


@pytest.mark.parametrize("limits", [{"ask_at": 0.95}, {"press_at": 1.0}, {"hold": 0}])
def test_thresholds_without_sense_are_refused(limits):
    with pytest.raises(WatchError, match="needed"):
        Thresholds(**limits)


def film(number, success, cameras, steps=24):
    """A ball crosses the picture; in a success it lies in a corner at the end."""
    rng = np.random.default_rng(number)
    pictures = rng.integers(90, 120, (steps, SIZE, SIZE, 3 * cameras)).astype(np.uint8)
    for t in range(steps):
        row, column = (12, 12) if success and t >= steps - 3 else (60, 20 + 2 * t)
        pictures[t, row : row + 8, column : column + 8] = 250
    return Film(number, pictures, success)


@pytest.fixture(scope="module", name="trained")
def _trained(contract):
    torch.set_num_threads(1)
    cameras = len(contract.images)
    films = [film(n, n % 2 == 0, cameras) for n in range(16)]
    learn, held = split(films, 4)
    return train(learn, contract, Settings(steps=60, batch_size=24, shift=2)), held


def test_learns_and_is_measured_on_episodes_held_out(trained):
    made, held = trained
    assert len(held) == 4 and sum(f.success for f in held) == 2
    found = measure(made, held, 9)
    assert (found.right, found.wrong, found.missed) == (2, 0, 0)
    assert (found.precision, found.recall) == (1.0, 1.0)


def test_press_that_comes_too_early_is_a_wrong_one(trained):
    made, held = trained
    success = next(f for f in held if f.success)
    late = Film(1, np.concatenate([success.pictures[-3:], success.pictures[:20]]), True)
    assert measure(made, [late], 9).wrong == 1
    fails = Film(2, success.pictures, False)
    assert measure(made, [fails], 9).to_dict()["precision"] == 0.0


def test_numbers_without_a_press_or_a_success():
    found = Measured(episodes=3).to_dict()
    assert (found["precision"], found["recall"], found["recall_ci95"]) == (None, None, None)


def test_too_few_of_one_kind(contract):
    films = [film(n, n < 2, 1, 12) for n in range(9)]
    with pytest.raises(ClassifierError, match="2 of 9 episodes are successes"):
        split(films, 4)


def test_file_gives_the_same_answer_and_fits_one_contract_only(trained, contract, tmp_path):
    made, held = trained
    path = tmp_path / "success.safetensors"
    made.save(path)
    again = load(path, contract)
    images = {
        n: held[0].pictures[-1][..., 3 * i : 3 * i + 3] for i, n in enumerate(contract.images)
    }
    assert again.look(images) == made.look(images)
    assert again.thresholds == made.thresholds
    with pytest.raises(ContractError, match="classifier"):
        load(path, vega_contract("state"))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ClassifierError, match="not a whole"):
        load(path, contract)
    with pytest.raises(ClassifierError, match="train-classifier"):
        load(tmp_path / "none", contract)


def test_missing_camera_is_named():
    made = Classifier(SuccessNet(1, 16), ("left",), 16, "c" * 64)
    with pytest.raises(ClassifierError, match="'left'"):
        made.look({})
