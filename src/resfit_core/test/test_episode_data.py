"""The stored episode: what it refuses, and that its bytes say all of it."""

import numpy as np
import pytest
from learning_cases import episode

from resfit_core.data.episode import Episode, EpisodeError


def test_bytes_are_deterministic_and_hold_everything():
    images = {"left": np.random.default_rng(0).integers(0, 255, (6, 4, 5, 3), np.uint8)}
    original = episode(7, 5, True, revision=2, images=images)
    data = original.to_bytes()
    assert data == episode(7, 5, True, revision=2, images=images).to_bytes()
    copy = Episode.from_bytes(data)
    assert copy.to_bytes() == data
    assert copy.sha256 == original.sha256
    assert (copy.episode, copy.revision, copy.success, copy.seed) == (7, 2, True, 7)
    np.testing.assert_array_equal(copy.images["left"], images["left"])
    np.testing.assert_array_equal(copy.intervention, original.intervention)


def test_arrays_cannot_be_changed_afterwards():
    source = np.zeros((5, 2))
    made = episode(1, 5, action=source)
    source[:] = 9
    assert made.action.max() == 0
    with pytest.raises(ValueError, match="read-only"):
        made.action[0] = 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observation": np.zeros((5, 3))}, r"observation has shape \(5, 3\).*\(6, 3\)"),
        ({"base_action": np.zeros((6, 3))}, r"base_action has shape \(6, 3\).*\(6, 2\)"),
        ({"reward": np.zeros(4)}, r"reward has shape \(4,\)"),
        ({"action": np.zeros((0, 2))}, "without a complete step"),
        ({"action": np.full((5, 2), np.nan)}, r"action\[0, 0\] is nan"),
        ({"action": np.full((5, 2), 1.01)}, r"action reaches 1.01, outside \[-1, 1\]"),
        ({"chunk_phase": np.full(6, 3.0)}, "chunk_phase leaves"),
        ({"terminated": True}, "terminated and truncated are both True"),
        ({"success": True, "terminated": False, "truncated": True}, "success without terminated"),
        ({"mode": 9}, "mode is 9"),
        ({"revision": -1}, "revision is -1"),
        ({"reward": "many"}, "reward is not an array"),
        ({"images": {"left": np.zeros((6, 4, 4, 3))}}, r"images\['left'\] is float64"),
    ],
)
def test_refusals_name_field_and_value(changes, words):
    with pytest.raises(EpisodeError, match=words) as error:
        episode(4, 5, **changes)
    assert "episode 4 revision" in str(error.value)


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_cut_bytes_are_refused(cut):
    with pytest.raises(EpisodeError, match="fetch or write it again"):
        Episode.from_bytes(episode(1, 5).to_bytes()[:cut])
