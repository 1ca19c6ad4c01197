"""Pure pairs `x_to_msg` / `x_from_msg`. Stamps are whole nanoseconds on the plain side.

Vectors are filled as `array.array`, the type rclpy itself uses: lists cost ten times as much.
Arrays read from messages share no memory with them. Every scalar is cast to Python's own type on
the way out: the serialiser *aborts the process* on a numpy number.
"""

from __future__ import annotations

import array
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Pose, PoseArray, WrenchStamped
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from resfit_core.control import records
from resfit_core.control.answers import DriverStatus
from resfit_core.control.press import OperatorEvent
from resfit_interfaces import msg as ours
from resfit_ros.images import image_from_msg, image_to_msg
from resfit_ros.stamps import ConversionError, header, stamp_from_msg, stamp_to_msg


def floats(values: np.ndarray) -> array.array:
    """Return a float32 vector as rclpy's sequence type."""
    return array.array("f", np.ascontiguousarray(values, np.float32).tobytes())


def doubles(values: np.ndarray) -> array.array:
    """Return a float64 vector as rclpy's sequence type."""
    return array.array("d", np.ascontiguousarray(values, np.float64).tobytes())


def trajectory_to_msg(
    stamp_ns: int, names: Sequence[str], position_rad: np.ndarray
) -> JointTrajectory:
    """Return one point [rad] as a trajectory stamped with the observation it answers."""
    return JointTrajectory(
        header=header(stamp_ns),
        joint_names=list(names),
        points=[JointTrajectoryPoint(positions=doubles(position_rad))],
    )


def trajectory_from_msg(msg: JointTrajectory) -> tuple[int, tuple[str, ...], np.ndarray]:
    """Return stamp [ns], joint names and the point's positions [rad] (n,), length unchecked.

    Raises:
        ConversionError: The trajectory has not exactly one point.
    """
    if len(msg.points) != 1:
        raise ConversionError(
            f"trajectory has {len(msg.points)} points; commands carry exactly one"
        )
    position = np.array(msg.points[0].positions, np.float64)
    return stamp_from_msg(msg.header.stamp), tuple(msg.joint_names), position


def joint_state_to_msg(
    stamp_ns: int, names: Sequence[str], position: np.ndarray, velocity: np.ndarray
) -> JointState:
    """Return joint positions [rad] and velocities [rad/s] as a message."""
    return JointState(
        header=header(stamp_ns),
        name=list(names),
        position=doubles(position),
        velocity=doubles(velocity),
    )


def joint_state_from_msg(msg: JointState) -> tuple[int, tuple[str, ...], np.ndarray, np.ndarray]:
    """Return stamp [ns], names, positions [rad] and velocities [rad/s] (empty: not given)."""
    return (
        stamp_from_msg(msg.header.stamp),
        tuple(msg.name),
        np.array(msg.position, np.float64),
        np.array(msg.velocity, np.float64),
    )


def poses_to_msg(stamp_ns: int, poses: np.ndarray, frame_id: str = "") -> PoseArray:
    """Return poses of shape (n, 7), x y z [m] and quaternion x y z w, as a message."""
    out = PoseArray(header=header(stamp_ns, frame_id))
    for row in np.asarray(poses, np.float64).reshape(-1, 7).tolist():
        pose = Pose()
        pose.position.x, pose.position.y, pose.position.z = row[:3]
        quaternion = pose.orientation
        quaternion.x, quaternion.y, quaternion.z, quaternion.w = row[3:]
        out.poses.append(pose)
    return out


def poses_from_msg(msg: PoseArray) -> tuple[int, np.ndarray]:
    """Return stamp [ns] and poses of shape (n, 7): x y z [m], quaternion x y z w."""
    rows = [
        (q.x, q.y, q.z, r.x, r.y, r.z, r.w)
        for q, r in ((pose.position, pose.orientation) for pose in msg.poses)
    ]
    return stamp_from_msg(msg.header.stamp), np.array(rows, np.float64).reshape(-1, 7)


def wrench_to_msg(stamp_ns: int, wrench: np.ndarray, frame_id: str = "") -> WrenchStamped:
    """Return force [N] and torque [Nm], shape (6,), as a message."""
    out = WrenchStamped(header=header(stamp_ns, frame_id))
    force, torque = out.wrench.force, out.wrench.torque
    force.x, force.y, force.z, torque.x, torque.y, torque.z = map(float, wrench)
    return out


def wrench_from_msg(msg: WrenchStamped) -> tuple[int, np.ndarray]:
    """Return stamp [ns], and force [N] and torque [Nm] of shape (6,)."""
    force, torque = msg.wrench.force, msg.wrench.torque
    values = np.array([force.x, force.y, force.z, torque.x, torque.y, torque.z])
    return stamp_from_msg(msg.header.stamp), values


def policy_step_to_msg(record: records.PolicyStep) -> ours.PolicyStep:
    """Return the record as a message."""
    return ours.PolicyStep(header=header(record.stamp_ns), **_seen_to_msg(record))


def policy_step_from_msg(msg: ours.PolicyStep) -> records.PolicyStep:
    """Return the message as a record."""
    return records.PolicyStep(**_seen_from_msg(msg))


def step_to_msg(record: records.Step) -> ours.Step:
    """Return the record as a message."""
    return ours.Step(
        header=header(record.stamp_ns),
        action_norm=floats(record.action),
        weights_version=int(record.weights_version),
        explored=bool(record.explored),
        **_seen_to_msg(record),
    )


def step_from_msg(msg: ours.Step) -> records.Step:
    """Return the message as a record."""
    return records.Step(
        action=np.array(msg.action_norm, np.float32),
        weights_version=msg.weights_version,
        explored=msg.explored,
        **_seen_from_msg(msg),
    )


def executed_to_msg(record: records.ExecutedCommand) -> ours.ExecutedCommand:
    """Return the record as a message."""
    return ours.ExecutedCommand(
        header=header(record.stamp_ns),
        source=int(record.source),
        action_rad=doubles(record.action_rad),
        action_norm=floats(record.action_norm),
        altered=bool(record.altered),
        reasons=int(record.reasons),
    )


def executed_from_msg(msg: ours.ExecutedCommand) -> records.ExecutedCommand:
    """Return the message as a record."""
    return records.ExecutedCommand(
        stamp_ns=stamp_from_msg(msg.header.stamp),
        source=msg.source,
        action_rad=np.array(msg.action_rad, np.float64),
        action_norm=np.array(msg.action_norm, np.float32),
        altered=msg.altered,
        reasons=msg.reasons,
    )


def driver_status_to_msg(
    stamp_ns: int, mode: int, words: str, status: DriverStatus
) -> ours.DriverState:
    """Return the driver's status as a message.

    Args:
        stamp_ns: Time of sending [ns].
        mode: INACTIVE … ESTOPPED.
        words: The status' reasons in words.
        status: Its other numbers.
    """
    return ours.DriverState(
        header=header(stamp_ns),
        mode=mode,
        reasons=status.reasons,
        reason=words,
        commands=status.commands,
        altered=status.altered,
        refused=status.refused,
        holds=status.holds,
        command_age_s=status.command_age_s,
        source=status.source,
        start_pose_episode=status.start_pose_episode,
    )


_STATE_FIELDS = (
    "run_id", "phase", "mode", "episode", "seed", "use_residual", "required_weights_version",
    "ended_by", "credited_step", "reward", "terminated", "truncated", "revision", "reason",
    "episodes_planned", "seal", "round", "label",
)  # fmt: skip


def episode_state_to_msg(record: records.EpisodeState) -> ours.EpisodeState:
    """Return the record as a message."""
    out = ours.EpisodeState(
        header=header(record.stamp_ns),
        start_stamp=stamp_to_msg(record.start_ns),
        end_stamp=stamp_to_msg(record.end_ns),
    )
    for name in _STATE_FIELDS:
        setattr(out, name, type(getattr(out, name))(getattr(record, name)))
    return out


def episode_state_from_msg(msg: ours.EpisodeState) -> records.EpisodeState:
    """Return the message as a record."""
    return records.EpisodeState(
        stamp_ns=stamp_from_msg(msg.header.stamp),
        start_ns=stamp_from_msg(msg.start_stamp),
        end_ns=stamp_from_msg(msg.end_stamp),
        **{name: getattr(msg, name) for name in _STATE_FIELDS},
    )


def event_to_msg(event: OperatorEvent) -> ours.OperatorEvent:
    """Return the press as a message."""
    return ours.OperatorEvent(
        header=header(event.stamp_ns),
        kind=int(event.kind),
        source=event.source,
        reason=event.reason,
        episode=int(event.episode),
    )


def event_from_msg(msg: ours.OperatorEvent) -> OperatorEvent:
    """Return the message as a press; `kind` is unchecked."""
    return OperatorEvent(
        kind=msg.kind,
        source=msg.source,
        reason=msg.reason,
        stamp_ns=stamp_from_msg(msg.header.stamp),
        episode=msg.episode,
    )


def abort(source: str, episode: int, reason: str) -> ours.OperatorEvent:
    """Return the request to end an episode without a verdict; stamp 0: now.

    Args:
        source: Name of the node that asks.
        episode: Number of the episode.
        reason: Why, in words.
    """
    event = ours.OperatorEvent(source=source, reason=reason, episode=int(episode))
    event.kind = ours.OperatorEvent.ABORT
    return event


def step_of_tick(
    tick: ours.PolicyStep, action: np.ndarray, weights_version: int, explored: bool
) -> ours.Step:
    """Return what the residual made of a tick; observation and images are shared, not copied."""
    return ours.Step(
        header=tick.header,
        episode=tick.episode,
        step=tick.step,
        is_first=tick.is_first,
        is_last=tick.is_last,
        observation=tick.observation,
        images=tick.images,
        base_action_norm=tick.base_action_norm,
        base_action_sealed=tick.base_action_sealed,
        chunk_phase=tick.chunk_phase,
        action_norm=floats(action),
        weights_version=int(weights_version),
        explored=bool(explored),
        contract_sha256=tick.contract_sha256,
        base_sha256=tick.base_sha256,
    )


def base_action_from_msg(msg: ours.PolicyStep | ours.Step) -> np.ndarray:
    """Return the base's action, normalised; empty in a blind evaluation."""
    return np.array(msg.base_action_norm, np.float32)


def _seen_to_msg(record: records.PolicyStep | records.Step) -> dict:
    """Fields that PolicyStep and Step share."""
    return {
        "episode": int(record.episode),
        "step": int(record.step),
        "is_first": bool(record.is_first),
        "is_last": bool(record.is_last),
        "observation": floats(record.observation),
        "images": [image_to_msg(record.stamp_ns, image) for image in record.images],
        "base_action_norm": floats(record.base_action),
        "base_action_sealed": array.array("B", record.base_action_sealed),
        "chunk_phase": float(record.chunk_phase),
        "contract_sha256": record.contract_sha256,
        "base_sha256": record.base_sha256,
    }


def _seen_from_msg(msg: ours.PolicyStep | ours.Step) -> dict:
    return {
        "stamp_ns": stamp_from_msg(msg.header.stamp),
        "episode": msg.episode,
        "step": msg.step,
        "is_first": msg.is_first,
        "is_last": msg.is_last,
        "observation": np.array(msg.observation, np.float32),
        "images": tuple(image_from_msg(image) for image in msg.images),
        "base_action": base_action_from_msg(msg),
        "base_action_sealed": bytes(msg.base_action_sealed),
        "chunk_phase": msg.chunk_phase,
        "contract_sha256": msg.contract_sha256,
        "base_sha256": msg.base_sha256,
    }
