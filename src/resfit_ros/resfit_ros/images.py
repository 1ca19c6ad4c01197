"""Images to and from messages: through `cv_bridge` where ROS has it, else by the same rule here.

`cv_bridge` is not on the package registry that the underlay comes from. Both ways give the same
bytes (test_images.py), and both say the same of a message that is cut short.
"""

from __future__ import annotations

import array
from typing import Any

import numpy as np
from sensor_msgs.msg import Image

from resfit_ros.stamps import ConversionError, header

CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}


def find_bridge() -> Any:
    """Return a `cv_bridge.CvBridge`; None: ROS has none here, or one for another numpy."""
    try:
        from cv_bridge import CvBridge
        from cv_bridge.boost import cv_bridge_boost  # noqa: F401 (the half that may not load)
    except ImportError:
        return None
    return CvBridge()


_BRIDGE = find_bridge()


def image_to_msg(
    stamp_ns: int, image: np.ndarray, frame_id: str = "", encoding: str = "rgb8"
) -> Image:
    """Return an image as a message.

    Args:
        stamp_ns: When it was taken [ns].
        image: uint8, channels in the encoding's order. Shape: (height, width, 3 or 4).
        frame_id: Optical frame of the camera.
        encoding: One of `CHANNELS`.

    Raises:
        ConversionError: The encoding is none of these, or has another number of channels.
    """
    image = np.ascontiguousarray(image, np.uint8)
    if image.ndim != 3 or CHANNELS.get(encoding) != image.shape[2]:
        raise ConversionError(
            f"an image of shape {image.shape} is no '{encoding}'; channels: {CHANNELS}"
        )
    if _BRIDGE is not None:
        return _BRIDGE.cv2_to_imgmsg(image, encoding, header(stamp_ns, frame_id))
    height, width, channels = image.shape
    return Image(
        header=header(stamp_ns, frame_id),
        height=height,
        width=width,
        encoding=encoding,
        step=channels * width,
        data=array.array("B", image.tobytes()),
    )


def image_from_msg(msg: Image) -> np.ndarray:
    """Return an image as RGB, uint8 of shape (height, width, 3).

    Raises:
        ConversionError: An encoding other than rgb8, bgr8, rgba8, bgra8, or too few bytes.
    """
    channels = CHANNELS.get(msg.encoding)
    if channels is None:
        raise ConversionError(
            f"image encoding '{msg.encoding}' is not one of {sorted(CHANNELS)}; "
            "set the camera to one of them"
        )
    if msg.step < msg.width * channels or len(msg.data) < msg.step * msg.height:
        raise ConversionError(
            f"image of {msg.width} x {msg.height} {msg.encoding} has {len(msg.data)} bytes with "
            f"rows of {msg.step}; the message is cut short"
        )
    # cv_bridge reads rows padded by a part of a pixel askew, and swaps bytes that have no order.
    if _BRIDGE is not None and msg.step % channels == 0 and not msg.is_bigendian:
        return np.ascontiguousarray(_BRIDGE.imgmsg_to_cv2(msg, "rgb8"))
    raw = np.frombuffer(msg.data, np.uint8, msg.step * msg.height)
    rows = raw.reshape(msg.height, msg.step)[:, : msg.width * channels]
    pixels = rows.reshape(msg.height, msg.width, channels)
    pixels = pixels[..., 2::-1] if msg.encoding.startswith("bgr") else pixels[..., :3]
    return np.array(pixels, order="C")
