"""Sets by our own few lines and by `message_filters` are the same sets."""

import random

import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from sensor_msgs.msg import JointState

from resfit_core.control.observe import SensorJoiner
from resfit_ros import joining
from resfit_ros.stamps import header

STREAMS = ("joints", "wrench", "left")

# What message_filters' TimeSynchronizer(queue_size=3) and Cache(1) gave for these messages.
# Each: stream, stamp; the stamp of the set that it completes.
EXACT = [
    ("joints", 10, None), ("left", 10, None), ("wrench", 10, 10),
    ("joints", 10, None), ("wrench", 10, None), ("left", 10, 10),  # sent again
    ("left", 30, None), ("joints", 20, None), ("wrench", 20, None), ("joints", 30, None),
    ("wrench", 30, 30), ("left", 20, None),  # overtaken: older than the newest set
    ("joints", 40, None), ("joints", 50, None), ("joints", 60, None), ("joints", 70, None),
    ("wrench", 40, None), ("left", 40, None),  # its half had to go
    ("wrench", 50, None), ("left", 50, 50),
]  # fmt: skip
# Stream, stamp; the newest set at the time of that stamp, none older than 25, none 15 apart.
NEWEST = [
    ("joints", 10, None), ("wrench", 12, None), ("left", 5, (10, 12, 5)),
    ("joints", 20, (20, 12, 5)), ("joints", 21, None), ("left", 18, (21, 12, 18)),
    ("wrench", 30, (21, 30, 18)), ("left", 35, (21, 30, 35)), ("left", 33, (21, 30, 33)),
    ("joints", 60, None), ("wrench", 50, None), ("left", 60, (60, 50, 60)),
]  # fmt: skip


def _filters():
    return pytest.importorskip(
        "message_filters", reason="message_filters comes with a ROS install only"
    )


def _make(kind, **given):
    if kind == "own":
        return SensorJoiner(STREAMS, **given)
    return joining.FilterJoiner(_filters(), STREAMS, **given)


def _msg(stream, stamp_ns):
    return JointState(header=header(stamp_ns, stream))


def _stamps(joined):
    if joined is None:
        return None
    assert tuple(joined.items) == STREAMS
    assert [m.header.frame_id for m in joined.items.values()] == list(STREAMS)
    return tuple(m.header.stamp.nanosec for m in joined.items.values())


@pytest.mark.parametrize("kind", ["own", "message_filters"])
def test_exact_sets(kind):
    joiner = _make(kind, exact=True, depth=3)
    for number, (stream, stamp, expected) in enumerate(EXACT):
        found = _stamps(joiner.add(stream, stamp, _msg(stream, stamp)))
        assert found == (None if expected is None else (expected,) * 3), number


@pytest.mark.parametrize("kind", ["own", "message_filters"])
def test_newest_sets(kind):
    joiner = _make(kind, exact=False, slack_ns=15)
    for number, (stream, stamp, expected) in enumerate(NEWEST):
        assert joiner.add(stream, stamp, _msg(stream, stamp)) is None
        assert _stamps(joiner.newest(stamp, 25)) == expected, number


def test_random_messages_join_alike():
    rng = random.Random(3)
    pairs = [
        (
            _make("own", exact=exact, slack_ns=20),
            _make("message_filters", exact=exact, slack_ns=20),
        )
        for exact in (True, False)
    ]
    joined = 0
    for k in range(5000):
        stream, stamp = rng.choice(STREAMS), max(0, k // 10 + rng.randint(-6, 6))
        for own, theirs in pairs:
            msg = _msg(stream, stamp)
            found = _stamps(own.add(stream, stamp, msg))
            assert found == _stamps(theirs.add(stream, stamp, msg))
            newest = _stamps(own.newest(k // 10, 5))
            assert newest == _stamps(theirs.newest(k // 10, 5))
            joined += found is not None or newest is not None
    assert joined > 500


def test_the_one_that_is_there_is_taken():
    made = joining.make_joiner(STREAMS, exact=True)
    assert isinstance(made, SensorJoiner) == (joining.find_filters() is None)
