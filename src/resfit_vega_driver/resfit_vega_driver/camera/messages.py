"""What the camera node says: calibration and health as messages."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import CameraInfo

from resfit_ros.conversions import header
from resfit_vega_driver.camera.pump import Counts
from resfit_vega_driver.camera.source import Pinhole


def info_topics(image_topic: str) -> tuple[str, str]:
    """Return where a camera's calibration is published, as zed-ros2-wrapper does.

    Beside the image, where `image_transport` looks for it, and below it.
    """
    return f"{image_topic.rpartition('/')[0]}/camera_info", f"{image_topic}/camera_info"


def camera_info(
    frame_id: str, width: int, height: int, eye: Pinhole | None, baseline_m: float
) -> CameraInfo:
    """Return the calibration of a rectified image, without a stamp.

    Args:
        frame_id: Optical frame of the camera.
        width: Of the stream [px].
        height: See `width` [px].
        eye: Intrinsics at this size; None: unknown, which ROS says by a camera matrix of zeros.
        baseline_m: Distance to the left eye [m]; 0: this is the left eye.
    """
    info = CameraInfo(width=width, height=height)
    info.header.frame_id = frame_id
    if eye is None:
        return info
    fx, fy, cx, cy = (float(v) for v in (eye.fx, eye.fy, eye.cx, eye.cy))
    info.distortion_model = "rational_polynomial"
    info.d = [0.0] * 8
    info.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [fx, 0.0, cx, -fx * float(baseline_m), 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def diagnostics(
    stamp_ns: int, node: str, source: str, counts: Counts, promised_hz: float, fault: str
) -> DiagnosticArray:
    """Return the camera's health.

    Args:
        stamp_ns: Now [ns].
        node: Name of the node.
        source: What the camera is.
        counts: Since the start.
        promised_hz: Rate of the camera [1/s].
        fault: Why it cannot be believed; empty: it can.
    """
    slow = counts.captured > promised_hz and counts.rate_hz < 0.9 * promised_hz
    level, words = DiagnosticStatus.OK, f"{counts.rate_hz:.1f} frames/s"
    if slow:
        level, words = DiagnosticStatus.WARN, f"{words}, {promised_hz:g} are expected"
    if fault:
        level, words = DiagnosticStatus.ERROR, fault
    values = {
        "captured": counts.captured,
        "published": counts.published,
        "dropped": counts.dropped,
        "late": counts.late,
        "broke": counts.broke,
        "rate_hz": f"{counts.rate_hz:.2f}",
        "age_ms": f"{1000 * counts.age_s:.1f}",
    }
    status = DiagnosticStatus(
        level=level,
        name=f"{node}: frames",
        message=words,
        hardware_id=source,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )
    return DiagnosticArray(header=header(stamp_ns), status=[status])
