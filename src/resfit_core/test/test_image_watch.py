"""When a camera is believed: silence, and pictures that never change."""

import numpy as np
import pytest

from resfit_core.control.image_watch import ImageLimits, ImageWatch, load_image_limits
from resfit_core.strict_yaml import ContractError

LIMITS = ImageLimits(stale_s=1.0, frozen_s=0.5, moved_rad=0.05)


def picture(value):
    return np.full((32, 16, 4), value, np.uint8)


def test_silence_counts_from_the_beginning_and_from_the_last_picture():
    watch = ImageWatch(["left", "right"], LIMITS)
    assert watch.fault(1e9) == ""  # nobody has begun to watch
    watch.begin(10.0)
    assert watch.fault(11.0) == ""
    assert watch.fault(11.1) == "camera 'left' is silent: no image for 1.1 s"
    watch.seen("left", picture(1), 11.1)
    watch.seen("right", picture(1), 11.2)
    assert watch.fault(12.1) == ""
    assert "'left' is silent" in watch.fault(12.15)
    watch.begin(12.15)  # the next episode: the camera gets its time again
    assert watch.fault(13.1) == ""


def test_one_eye_that_never_changes_is_frozen_and_the_other_does_not_excuse_it():
    watch = ImageWatch(["left", "right"], LIMITS)
    watch.begin(0.0)
    for k in range(20):
        watch.seen("left", picture(k), k / 30)
        watch.seen("right", picture(7), k / 30)
        assert ("frozen" in watch.fault(k / 30)) == (k / 30 > 0.5)
    assert watch.fault(19 / 30) == "camera 'right' is frozen: 20 images without any change"
    watch.seen("right", picture(8), 0.7)
    assert watch.fault(0.7) == ""


def test_one_changed_pixel_is_a_change():
    watch = ImageWatch(["left"], LIMITS)
    watch.begin(0.0)
    for k in range(40):
        live = picture(5)
        live[17, 3, 1] = k % 2  # in none of the rows that are compared first
        watch.seen("left", live, k / 30)
        assert watch.fault(k / 30) == ""


def test_a_slow_camera_is_not_a_frozen_one():
    watch = ImageWatch(["left"], LIMITS)
    watch.begin(0.0)
    for at in (0.0, 0.9):
        watch.seen("left", picture(1), at)
    assert watch.fault(1.8) == ""  # two alike, but only two


def test_with_a_pose_still_pictures_are_wrong_only_while_the_robot_moves():
    """A simulator draws a robot that stands still without noise."""
    watch = ImageWatch(["left"], LIMITS)
    watch.begin(0.0)
    pose = np.zeros(3)
    for k in range(60):
        watch.seen("left", picture(3), k / 30)
        assert watch.fault(k / 30, pose) == ""
    pose[1] = 0.06
    words = "camera 'left' is frozen: 60 images without any change while a joint moved 0.06 rad"
    assert watch.fault(2.0, pose) == words
    watch.seen("left", picture(4), 2.0)
    assert watch.fault(2.0, pose) == ""
    assert watch.fault(2.0) == ""


def test_a_joint_that_moved_and_came_back_has_moved():
    """Bug: a swinging arm was back at its place when it was asked, time and again."""
    watch = ImageWatch(["left"], LIMITS)
    watch.begin(0.0)
    picture = np.zeros((32, 8), np.uint8)
    for k in range(20):
        watch.seen("left", picture.copy(), k / 30)
        found = watch.fault(k / 30, np.array([0.06 if k == 8 else 0.0]))
        assert ("while a joint moved 0.06 rad" in found) == (k > 15)  # after `frozen_s`


@pytest.mark.parametrize("pose", [np.zeros(0), np.full(3, np.nan), np.array([np.inf])])
def test_a_pose_that_says_nothing_changes_nothing(pose):
    watch = ImageWatch(["left"], LIMITS)
    watch.begin(0.0)
    for k in range(20):
        watch.seen("left", picture(3), k / 30)
        assert watch.fault(k / 30, pose) == ""
    watch.fault(20 / 30, np.zeros(1))
    assert watch.fault(20 / 30, pose) == ""


def test_frozen_zero_believes_any_picture():
    watch = ImageWatch(["left"], ImageLimits(frozen_s=0.0))
    watch.begin(0.0)
    for k in range(60):
        watch.seen("left", picture(3), k / 30)
    assert watch.fault(2.0) == ""


def test_limits_lie_beside_the_robot(tmp_path):
    robot = tmp_path / "arm.yaml"
    assert load_image_limits(robot) == ImageLimits()
    file = tmp_path / "arm.camera.yaml"
    file.write_text("watch: {stale_s: 2, frozen_s: 0, moved_rad: 0.1}\n")
    assert load_image_limits(robot) == ImageLimits(2.0, 0.0, 0.1)
    file.write_text("watch: {stale_s: 0, frozen_s: 0, moved_rad: 0.1}\n")
    with pytest.raises(ContractError, match="'stale_s' is 0"):
        load_image_limits(robot)
    file.write_text("watch: {stale: 2, frozen_s: 0, moved_rad: 0.1}\n")
    with pytest.raises(ContractError, match="did you mean 'stale_s'"):
        load_image_limits(robot)
    file.write_text("source: sdk\n")
    with pytest.raises(ContractError, match="missing key 'watch'"):
        load_image_limits(robot)
