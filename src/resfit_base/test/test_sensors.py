"""The base may see more than everybody: a scripted expert knows the objects where images are."""

import pathlib

import numpy as np

from resfit_base.sensors import OBJECTS, observer, streams
from resfit_core.contract import load_contract
from resfit_core.control.tick import BaseTick, Seen
from resfit_ros import conversions

CONFIG = pathlib.Path(__file__).parents[3] / "config"
OWN = ("joint_position", "object_position")


def _contract(variant):
    return load_contract(
        CONFIG / "robot" / "vega_1.yaml", CONFIG / "task" / "package_handover.yaml", variant
    )


def _joined(contract, joints, poses):
    image = np.full((360, 640, 3), 7, np.uint8)
    items = {
        contract.camera(name).topic: conversions.image_to_msg(1, image, "here")
        for name in contract.images
    }
    items["joint_states"] = conversions.joint_state_to_msg(
        1, list(contract.joint_names), joints, np.zeros_like(joints)
    )
    items[OBJECTS] = conversions.poses_to_msg(1, poses, "base")
    return items


def test_poses_are_joined_only_where_somebody_looks():
    contract = _contract("pixels")
    topics = [stream.topic for stream in streams(contract, contract.images)]
    assert OBJECTS not in topics
    with_expert = [stream.topic for stream in streams(contract, contract.images, OWN)]
    assert set(with_expert) - set(topics) == {OBJECTS}
    state = _contract("state")
    assert streams(state, (), state.fields) == streams(state, ())


def test_base_sees_its_own_fields_and_everybody_else_the_contract_s():
    contract = _contract("pixels")
    joints = np.linspace(contract.lower, contract.upper, 3)[1]
    poses = np.zeros((3, 7))
    poses[:, :3] = np.arange(9).reshape(3, 3)
    poses[:, 6] = 1
    seen = observer(contract, OWN)(_joined(contract, joints, poses))
    np.testing.assert_array_equal(seen.observation, joints.astype(np.float32))
    np.testing.assert_array_equal(seen.base_observation[:29], joints.astype(np.float32))
    np.testing.assert_array_equal(seen.base_observation[29:], np.arange(9))
    assert [image.shape for image in seen.images] == [(84, 84, 3)] * 2
    plain = observer(contract, contract.fields)(_joined(contract, joints, poses))
    assert plain.base_observation is None


def test_tick_hands_the_base_its_own_observation():
    heard = []

    class Listening:
        def reset(self, seed):
            pass

        def act(self, observation, images):
            heard.append(observation)
            return type("Action", (), {"action_norm": np.zeros(2), "chunk_phase": 0.0})

    tick = BaseTick(
        Listening(), lambda joined: joined, "c", "b", period_ns=10, lockstep=True
    )  # fmt: skip
    everybody, own = np.zeros(1), np.ones(2)
    step = tick._say(1, Seen(everybody, base_observation=own), 1, 0, is_last=False)
    assert heard[0] is own and step.observation is everybody
    tick._say(2, Seen(everybody), 1, 1, is_last=False)
    assert heard[1] is everybody
