"""What of the sensors a bag gets: the episode's own, images as they were seen, bounded memory."""

import pytest
from bag_maker import vega_contract

from resfit_core.data.sensor_log import CAMERAS, NONE, NUMBERS, SensorLog, sensor_topics

MS = 1_000_000
TOPICS = {"joint_states": "sensor_msgs/msg/JointState", "eye": "sensor_msgs/msg/Image"}


@pytest.fixture
def log():
    log = SensorLog(TOPICS | {"operator_event": "resfit_interfaces/msg/OperatorEvent"}, 1000)
    log.is_open = True
    return log


def stamps(found, topic):
    return [stamp // MS for name, stamp, _ in found if name == topic]


def test_topics_follow_the_contract():
    contract = vega_contract("pixels")
    assert sensor_topics(contract, NONE) == {}
    numbers = sensor_topics(contract, NUMBERS)
    assert {"joint_states", "left_wrist/wrench", "object_poses", "operator_event"} < set(numbers)
    more = set(sensor_topics(contract, CAMERAS)) - set(numbers)
    assert more == {contract.camera(name).topic for name in contract.images}


def test_numbers_of_the_episode_and_images_that_were_seen(log):
    for ms in range(0, 1000, 10):
        log.add("joint_states", ms * MS, b"j")
    for ms in (290, 340, 345, 460, 900):
        log.add("eye", ms * MS, b"i")
    found, left_out = log.take([300 * MS, 350 * MS, 400 * MS])
    assert stamps(found, "joint_states") == list(range(100, 401, 10))
    assert stamps(found, "eye") == [290, 345]
    assert left_out == 0
    # What came after the last observation belongs to the next episode.
    found, _ = log.take([500 * MS])
    assert stamps(found, "joint_states")[0] == 410 and stamps(found, "eye") == [460]


def test_the_same_stamp_again_is_kept_once_and_a_press_without_one_gets_the_newest(log):
    for _ in range(2):
        log.add("joint_states", 5 * MS, b"j")
    log.add("operator_event", 0, b"p")
    log.add("operator_event", 9 * MS, b"q")  # pressed after the last observation
    found, _ = log.take([5 * MS])
    assert stamps(found, "joint_states") == [5] and stamps(found, "operator_event") == [5, 9]


def test_images_beyond_the_memory_are_left_out_and_counted_numbers_are_not(log):
    for ms in (10, 20, 30):
        log.add("eye", ms * MS, bytes(400))
    log.add("joint_states", 30 * MS, bytes(400))
    found, left_out = log.take([10 * MS, 20 * MS, 30 * MS])
    assert stamps(found, "eye") == [10, 20] and left_out == 1
    assert stamps(found, "joint_states") == [30]


def test_between_episodes_little_is_kept_and_a_set_clock_does_not_deafen(log):
    log.is_open = False
    for second in range(100):
        log.add("joint_states", second * 1000 * MS, b"j")
    assert len(log._kept["joint_states"]) <= 6
    log.add("joint_states", 7, b"j")
    assert [stamp for stamp, _ in log._kept["joint_states"]] == [7]
