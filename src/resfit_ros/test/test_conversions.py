"""Messages and back: nothing is lost, and what is wrong is refused in words."""

import array

import numpy as np
import pytest

pytest.importorskip("resfit_interfaces.msg", reason="our messages are not built: run 'make setup'")

from rclpy.serialization import deserialize_message, serialize_message

from resfit_core.control import records
from resfit_ros import conversions as c
from resfit_ros import peek

RNG = np.random.default_rng(0)


def over_the_wire(msg):
    return deserialize_message(serialize_message(msg), type(msg))


def equal(one, two):
    for name in one.__slots__:
        a, b = getattr(one, name), getattr(two, name)
        if name == "images":
            assert len(a) == len(b)
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x, y)
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a, b, err_msg=name)
        else:
            assert a == b, name


SEEN = {
    "stamp_ns": 1_700_000_000_123_456_789,
    "episode": 7,
    "step": 3,
    "is_first": False,
    "is_last": True,
    "observation": RNG.normal(size=47).astype(np.float32),
    "base_action": RNG.uniform(-1, 1, 29).astype(np.float32),
    "chunk_phase": 0.25,
    "contract_sha256": "c" * 64,
    "base_sha256": "b" * 64,
    "images": tuple(RNG.integers(0, 256, (2, 84, 84, 3), dtype=np.uint8)),
}


def test_policy_step_and_step_round_trip():
    tick = records.PolicyStep(**SEEN)
    equal(tick, c.policy_step_from_msg(over_the_wire(c.policy_step_to_msg(tick))))
    action = RNG.uniform(-1, 1, 29).astype(np.float32)
    step = records.Step(**SEEN, action=action, weights_version=4, explored=True)
    equal(step, c.step_from_msg(over_the_wire(c.step_to_msg(step))))


def test_executed_round_trip():
    done = records.ExecutedCommand(
        stamp_ns=5,
        source=records.Source.HOLD,
        action_rad=RNG.normal(size=29),
        action_norm=RNG.uniform(-1, 1, 29).astype(np.float32),
        altered=True,
        reasons=6,
    )
    equal(done, c.executed_from_msg(over_the_wire(c.executed_to_msg(done))))


def test_episode_state_round_trip():
    state = records.EpisodeState(
        phase=records.Phase.ENDED, mode=records.Mode.EVALUATE, episode=12, run_id="run",
        seed=2**40, use_residual=False,
        required_weights_version=3, start_ns=1_500_000_000, end_ns=2 * 10**9,
        ended_by=records.EndedBy.SUCCESS, credited_step=9, reward=np.float32(1.0), terminated=True,
        revision=1, reason="oracle", episodes_planned=300, stamp_ns=99,
    )  # fmt: skip
    equal(state, c.episode_state_from_msg(over_the_wire(c.episode_state_to_msg(state))))


def test_standard_messages_round_trip():
    names, rad = ("a", "b"), np.array([0.1, -2.0])
    got = c.trajectory_from_msg(over_the_wire(c.trajectory_to_msg(17, names, rad)))
    assert got[:2] == (17, names)
    np.testing.assert_array_equal(got[2], rad)
    stamp, out, pos, vel = c.joint_state_from_msg(
        over_the_wire(c.joint_state_to_msg(18, names, rad, -rad))
    )
    assert (stamp, out) == (18, names)
    np.testing.assert_array_equal([pos, vel], [rad, -rad])
    poses = RNG.normal(size=(3, 7))
    stamp, got = c.poses_from_msg(over_the_wire(c.poses_to_msg(19, poses)))
    np.testing.assert_array_equal(got, poses)
    stamp, got = c.wrench_from_msg(over_the_wire(c.wrench_to_msg(20, np.arange(6.0))))
    assert stamp == 20
    np.testing.assert_array_equal(got, np.arange(6.0))


def test_no_objects_is_an_empty_array():
    assert c.poses_from_msg(c.poses_to_msg(1, np.zeros((0, 7))))[1].shape == (0, 7)


def test_images_of_other_layouts():
    image = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    msg = over_the_wire(c.image_to_msg(1, image))
    np.testing.assert_array_equal(c.image_from_msg(msg), image)
    # ZED sends bgra8, and rows may be padded.
    padded = np.zeros((4, 24), np.uint8)
    padded[:, :20] = np.dstack([image[..., ::-1], np.full((4, 5), 255, np.uint8)]).reshape(4, 20)
    msg.encoding, msg.step, msg.data = "bgra8", 24, array.array("B", padded.tobytes())
    np.testing.assert_array_equal(c.image_from_msg(msg), image)


def test_what_a_message_promises_must_be_there():
    msg = c.image_to_msg(1, np.zeros((4, 5, 3), np.uint8))
    msg.data = msg.data[:-1]
    with pytest.raises(c.ConversionError, match="has 59 bytes"):
        c.image_from_msg(msg)
    msg.encoding = "mono8"
    with pytest.raises(c.ConversionError, match="'mono8' is not one of"):
        c.image_from_msg(msg)
    command = c.trajectory_to_msg(1, ["a"], np.zeros(1))
    command.points = []
    with pytest.raises(c.ConversionError, match="0 points"):
        c.trajectory_from_msg(command)


@pytest.mark.parametrize("frame", ["", "a", "base_link", "four"])
def test_heads_are_read_off_serialized_bytes(frame):
    """Strings of every length shift the fields behind them; alignment must follow."""
    action = np.zeros(29, np.float32)
    msg = c.step_to_msg(records.Step(**SEEN, action=action, weights_version=4, explored=True))
    msg.header.frame_id = frame
    assert peek.step_head(serialize_message(msg)) == (SEEN["stamp_ns"], 7, 3, True)
    done = c.executed_to_msg(records.ExecutedCommand(5, 2, np.zeros(29), action, True, 128 + 6))
    done.header.frame_id = frame
    assert peek.executed_head(serialize_message(done)) == (5, 134)
    assert peek.executed_source(serialize_message(done)) == (5, 2, 134)


def test_foreign_bytes_are_refused():
    with pytest.raises(c.ConversionError, match="little-endian CDR is needed"):
        peek.step_head(b"\x00\x00" + b"\x00" * 40)
