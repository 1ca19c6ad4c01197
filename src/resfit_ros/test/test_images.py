"""Images to and from messages: by hand, and as `cv_bridge` does it where ROS has it."""

import array

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from sensor_msgs.msg import Image

from resfit_ros import images
from resfit_ros.stamps import ConversionError, header

# Two pixels of one row, (1 2 3) and (250 0 7) as red, green, blue, in every encoding taken.
BYTES = {
    "rgb8": [1, 2, 3, 250, 0, 7],
    "bgr8": [3, 2, 1, 7, 0, 250],
    "rgba8": [1, 2, 3, 9, 250, 0, 7, 255],
    "bgra8": [3, 2, 1, 9, 7, 0, 250, 255],
}


@pytest.fixture(name="way", params=["own", "cv_bridge"])
def _way(request, monkeypatch):
    if request.param == "own":
        monkeypatch.setattr(images, "_BRIDGE", None)
    elif images.find_bridge() is None:
        pytest.skip("cv_bridge comes with a ROS install only")
    return request.param


def _msg(encoding, rows=1, padding=0):
    row = BYTES[encoding] + [77] * padding
    return Image(
        header=header(5, "eye"), height=rows, width=2, encoding=encoding, step=len(row),
        data=array.array("B", row * rows),
    )  # fmt: skip


@pytest.mark.parametrize("padding", [0, 1, 12])
@pytest.mark.parametrize("encoding", BYTES)
def test_every_encoding_becomes_the_same_rgb(way, encoding, padding):
    rgb = images.image_from_msg(_msg(encoding, rows=3, padding=padding))
    assert rgb.dtype == np.uint8 and rgb.flags.c_contiguous and rgb.flags.writeable
    np.testing.assert_array_equal(rgb, [[[1, 2, 3], [250, 0, 7]]] * 3)


@pytest.mark.parametrize("encoding", BYTES)
def test_an_image_becomes_the_message_that_cv_bridge_makes(way, encoding):
    pixels = np.array(BYTES[encoding], np.uint8).reshape(1, 2, -1)
    msg = images.image_to_msg(1_000_000_005, pixels, "eye", encoding)
    assert (msg.height, msg.width, msg.step, msg.is_bigendian) == (1, 2, len(BYTES[encoding]), 0)
    assert (msg.encoding, msg.header.frame_id) == (encoding, "eye")
    assert (msg.header.stamp.sec, msg.header.stamp.nanosec) == (1, 5)
    assert list(msg.data) == BYTES[encoding]


def test_what_is_no_such_image_is_refused(way):
    with pytest.raises(ConversionError, match="'mono8' is not one of"):
        images.image_from_msg(Image(encoding="mono8"))
    cut = _msg("bgra8", rows=2)
    cut.data = cut.data[:-1]
    with pytest.raises(ConversionError, match="cut short"):
        images.image_from_msg(cut)
    with pytest.raises(ConversionError, match="is no 'bgra8'"):
        images.image_to_msg(1, np.zeros((2, 2, 3), np.uint8), "", "bgra8")


def test_random_images_are_alike_both_ways():
    bridge = images.find_bridge()
    if bridge is None:
        pytest.skip("cv_bridge comes with a ROS install only")
    rng = np.random.default_rng(0)
    for encoding, channels in images.CHANNELS.items():
        picture = rng.integers(0, 256, (37, 53, channels), dtype=np.uint8)
        msg = images.image_to_msg(3, picture, "eye", encoding)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(images, "_BRIDGE", None)
            own = images.image_from_msg(msg)
        np.testing.assert_array_equal(own, images.image_from_msg(msg))
