"""Checks on the frozen base and on the rule that joins it with the residual. Needs numpy only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np

from resfit_core.base.protocol import BaseAction, BasePolicy, Images
from resfit_core.control.combine import combine
from resfit_core.doctor.finding import Finding, bad, good, skipped

SCALE_ZERO, QUEUE_RESET, PASSED_ON = "scale_zero", "queue_reset", "base_passed_on"
QUEUE_RESET_IN_RUN = "queue_reset_in_run"
TARGET_SLACK_RAD, MEASURED_SLACK_RAD = 0.02, 0.1
"""How far beyond a limit is taken for rounding, and for a joint that overshoots or gives way."""
_MOVES_RAD = 0.05
_Rule = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def scale_zero(base_actions: np.ndarray, joints: Sequence[str], rule: _Rule = combine) -> Finding:
    """Check that with scale 0 the action is the base's, to the bit.

    Args:
        base_actions: What the base proposed, normalised. Shape: (rows, act_dim).
        joints: Name of each column.
        rule: The combine rule, (base, residual, scale) to action.
    """
    base = np.asarray(base_actions, np.float32)
    residual = np.linspace(-20.0, 20.0, base.size, dtype=np.float32).reshape(base.shape)
    action = rule(base, residual, np.zeros(base.shape[1], np.float32))
    differs = action.view(np.uint32) != base.view(np.uint32)
    if not differs.any():
        return good(SCALE_ZERO, f"with residual scale 0 all {len(base)} actions are the base's")
    row, joint = (int(i) for i in np.argwhere(differs)[0])
    says = (
        f"with residual scale 0 the action of '{joints[joint]}' is {action[row, joint]:.6g}, "
        f"the base's {base[row, joint]:.6g} ({differs.any(1).sum()} of {len(base)} rows differ)"
    )
    if np.abs(base[row, joint]) > 1 or np.isnan(base[row, joint]):
        return bad(
            SCALE_ZERO, says, "the base must stay within [-1, 1] of its action space: widen the "
            "range it is normalised by (make the base anew), or clip in the base",
        )  # fmt: skip
    return bad(SCALE_ZERO, says, "mend the combine rule: clip(base + scale * tanh(residual))")


def queue_reset(
    base: BasePolicy,
    observations: np.ndarray,
    images: Sequence[Images],
    seed: int | None = None,
) -> Finding:
    """Check that a reset in the middle of a chunk drops it: the same actions come again.

    Args:
        base: Frozen; it is reset here, before and after.
        observations: Of one episode. Shape: (rows, obs_dim).
        images: Those of each row.
        seed: Of the scene.
    """
    # Up to the middle of a later chunk: the next action is one of the old chunk, unless reset.
    steps = min(len(observations), base.chunk_length + max(1, base.chunk_length // 2))

    def played() -> list[BaseAction]:
        base.reset(seed)
        return [base.act(observations[i], images[i] or None) for i in range(steps)]

    first, again = played(), played()
    base.reset()
    fix = "reset() must drop the rest of the chunk and all that the policy remembers"
    if not again[0].planned or again[0].chunk_phase != 0:
        return bad(
            QUEUE_RESET,
            f"after {steps} steps and a reset the base goes on at {again[0].chunk_phase:.2f} "
            "of its old chunk: the first actions of an episode belong to the last scene",
            fix,
        )
    for step, (one, two) in enumerate(zip(first, again, strict=True)):
        if not np.array_equal(one.action_norm, two.action_norm):
            gap = float(np.abs(one.action_norm - two.action_norm).max())
            return bad(
                QUEUE_RESET,
                f"after a reset the base answers the same observations with other actions, from "
                f"step {step} on (by {gap:.3g})",
                f"{fix}; its noise must come from the seed of reset() alone",
            )
    return good(QUEUE_RESET, f"after a reset the base gives the same {steps} actions again")


def queue_reset_in_run(starts: Iterable[tuple[int, float]]) -> Finding:
    """Check that each recorded episode began with a newly planned chunk.

    Args:
        starts: Number of the episode, and the chunk phase at its first step.
    """
    known = list(starts)
    late = [(n, phase) for n, phase in known if phase != 0]
    if late:
        number, phase = late[0]
        return bad(
            QUEUE_RESET_IN_RUN,
            f"{len(late)} of {len(known)} episodes began within an old chunk, the first is "
            f"episode {number} at phase {phase:.2f}",
            "the base must be reset at the end of every episode, time-outs and aborts included",
        )
    return good(QUEUE_RESET_IN_RUN, f"all {len(known)} recorded episodes began with a new chunk")


def passed_on(rows: Iterable[tuple[int, np.ndarray, np.ndarray]]) -> Finding:
    """Check that where the base acted alone, what was proposed is the base's, to the bit.

    Args:
        rows: Episode, base actions and proposals, each of shape (steps, act_dim), of the steps
            in which neither residual nor noise acted.
    """
    count = 0
    for number, base, proposed in rows:
        count += len(base)
        if base.tobytes() != proposed.tobytes():
            steps = np.flatnonzero((base != proposed).any(1))
            return bad(
                PASSED_ON,
                f"in episode {number} the base was alone, but {len(steps)} proposals are not its "
                f"own, the first at step {steps[0] if len(steps) else 0}",
                "residual_policy changed the action: check use_residual, scale and noise in the "
                "run's train settings",
            )
    if not count:
        return skipped(PASSED_ON, "the base has not acted alone without noise yet")
    return good(PASSED_ON, f"in {count} steps without residual the base's action was passed on")


def joint_order(
    names: Sequence[str], ours: np.ndarray, theirs: np.ndarray, what: str, fix: str
) -> Finding:
    """Check that joint j of one side moves with joint j of the other, and not with another one.

    A joint that hardly moves tells nothing and is passed over; so do two that are told the same,
    as fingers are, of which one is stopped by what the hand holds.

    Args:
        names: Of the joints, in the contract's order.
        ours: Joint targets [rad]. Shape: (rows, joints).
        theirs: What should be near them [rad]. Shape: (rows, joints).
        what: Both sides in words.
        fix: What to do where they are swapped.
    """
    moving = np.flatnonzero((ours.std(0) > _MOVES_RAD) & (theirs.std(0) > _MOVES_RAD))
    check = f"joint_order ({what})"
    if len(moving) < 2:
        return skipped(check, "fewer than two joints move: their order shows nowhere")
    for joint in moving:
        away = np.sqrt(((theirs[:, moving] - ours[:, [joint]]) ** 2).mean(0))
        apart = np.sqrt(((ours[:, moving] - ours[:, [joint]]) ** 2).mean(0))
        own = float(away[list(moving).index(joint)])
        best = int(np.argmin(away))
        nearer = own > 2 * _MOVES_RAD and own > 3 * away[best] and apart[best] > 3 * away[best]
        if nearer and moving[best] != joint:
            return bad(
                check,
                f"'{names[joint]}' lies {own:.2f} rad from itself, but {away[best]:.2f} rad from "
                f"'{names[moving[best]]}': the order of joints differs",
                fix,
            )
    return good(check, f"{len(moving)} moving joints follow their own names")


def joint_limits(
    names: Sequence[str],
    lower: np.ndarray,
    upper: np.ndarray,
    values: np.ndarray,
    what: str,
    slack: float = TARGET_SLACK_RAD,
) -> Finding:
    """Check that angles lie within the contract's limits.

    Args:
        names: Of the joints.
        lower: Limits [rad]. Shape: (joints,).
        upper: Limits [rad]. Shape: (joints,).
        values: Angles [rad]. Shape: (rows, joints).
        what: What they are, in words.
        slack: So far beyond is no fault [rad].
    """
    beyond = np.maximum(lower - values, values - upper).max(0)
    worst = int(np.argmax(beyond))
    check = f"joint_limits ({what})"
    if beyond[worst] > slack:
        return bad(
            check,
            f"'{names[worst]}' goes {beyond[worst]:.3f} rad beyond its limits "
            f"[{lower[worst]:.2f}, {upper[worst]:.2f}]",
            "joint limits of the robot's YAML, units (rad, not degrees) or the joint's zero are "
            "wrong; a demonstration that the robot cannot repeat must go",
        )
    return good(check, f"all {len(names)} joints stay within the contract's limits")


def within_range(
    names: Sequence[str], low: np.ndarray, high: np.ndarray, actions_rad: np.ndarray
) -> Finding:
    """Check that the base's action range holds the demonstrated actions: beyond, they are clipped.

    Args:
        names: Of the joints.
        low: The range [rad]. Shape: (joints,).
        high: The range [rad]. Shape: (joints,).
        actions_rad: Demonstrated joint targets. Shape: (rows, joints).
    """
    outside = ((actions_rad < low - 1e-6) | (actions_rad > high + 1e-6)).mean(0)
    worst = int(np.argmax(outside))
    if outside[worst] > 0.01:
        return bad(
            "action_range",
            f"{outside[worst]:.0%} of the demonstrated targets of '{names[worst]}' lie outside "
            f"the base's range [{low[worst]:.2f}, {high[worst]:.2f}] rad",
            "these demonstrations are not those of this base: give the demos it was made from, or "
            "make a base from these ('make base')",
        )
    return good("action_range", "the base's action range holds the demonstrated targets")


def gaps(stamps_ns: Sequence[np.ndarray], period_s: float) -> Finding:
    """Check that the observations of each episode follow each other at the control rate.

    Args:
        stamps_ns: Per episode, times of its observations [ns].
        period_s: The contract's control period [s].
    """
    steps = np.array([b - a for s in stamps_ns for a, b in pairwise(s)], np.float64) / 1e9
    if not len(steps):
        return skipped("control_rate", "no episode with two observations")
    late = float((steps > 1.5 * period_s).mean())
    says = f"{late:.1%} of {len(steps)} steps came later than 1.5 control periods"
    if late > 0.05:
        return bad(
            "control_rate", f"{says} (median {np.median(steps):.3f} s, contract {period_s:.3f} s)",
            "the robot's computer is too slow or the demos were recorded at another rate: close "
            "other programs, or set control_rate_hz to what it keeps",
        )  # fmt: skip
    return good("control_rate", says)
