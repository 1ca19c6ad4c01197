"""Checks on what a run has done so far. Needs numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resfit_core.control.guard import Guard, Verdict
from resfit_core.doctor.finding import Finding, bad, good, skipped
from resfit_core.intervals import wilson
from resfit_core.run_log import EpisodeLine

DRIFT, SATURATION, REWARDS, SUCCESS = (
    "observation_drift",
    "residual_saturation",
    "rewards_seen",
    "success_against_base",
)
SHIFT = 3.0
"""Standard deviations of the demos by which a mean may move."""
FAR, FAR_SHARE = 5.0, 0.2
"""z-score beyond which an observation is foreign, and the share of them that is too many."""
SATURATED, SATURATED_SHARE = 0.95, 0.5
"""Share of a joint's reach that counts as its end, and the share of steps that is too many."""
NO_REWARD_AFTER = 20
"""Practice episodes without a single success that are too many."""


def drift(
    demos: np.ndarray, run: np.ndarray, names: Sequence[str], floor: np.ndarray | float = 0.01
) -> Finding:
    """Check, number by number, that the run sees what the demonstrations saw.

    Args:
        demos: Observations. Shape: (rows, dims).
        run: The same of the run. Shape: (rows, dims).
        names: Of the dimensions.
        floor: Least deviation that counts, in each one's own unit. Shape: () or (dims,).
    """
    mean, std = demos.mean(0), np.maximum(demos.std(0), floor)
    z = (run - mean) / std
    shift, far = np.abs(z.mean(0)), (np.abs(z) > FAR).mean(0)
    moved = np.flatnonzero((shift > SHIFT) | (far > FAR_SHARE))
    if not len(moved):
        return good(
            DRIFT, f"{len(names)} numbers lie where the demos had them (largest shift of a mean "
            f"{shift.max():.1f} standard deviations, '{names[int(np.argmax(shift))]}')",
        )  # fmt: skip
    worst = moved[np.argsort(-np.maximum(shift, far * SHIFT / FAR_SHARE)[moved])]
    told = ", ".join(
        f"'{names[i]}' {run[:, i].mean():.3g} instead of {mean[i]:.3g} ± {std[i]:.2g}"
        for i in worst[:3]
    )
    more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
    return bad(
        DRIFT, f"{len(moved)} of {len(names)} numbers are not what the demos saw: {told}{more}",
        "set the scene up as it was for the demos (camera, lights, start pose, zero of joints and "
        "wrench sensors), or record new demos and make the base anew",
    )  # fmt: skip


def saturation(used: np.ndarray, names: Sequence[str], scale: np.ndarray) -> Finding:
    """Check that no joint's residual sits at the end of its reach.

    Args:
        used: |action - base| / scale without noise. Shape: (rows, joints).
        names: Of the joints.
        scale: Reach of each joint; 0: it is not corrected. Shape: (joints,).
    """
    live = np.flatnonzero(scale > 0)
    if not len(used) or not len(live):
        return skipped(SATURATION, "no step with a residual yet")
    share = (np.abs(used[:, live]) >= SATURATED).mean(0)
    stuck = np.flatnonzero(share > SATURATED_SHARE)
    worst = int(np.argmax(share))
    if not len(stuck):
        return good(
            SATURATION, f"the joint most often at the end of its reach, "
            f"'{names[live[worst]]}', is there in {share[worst]:.0%} of {len(used)} steps",
        )  # fmt: skip
    told = ", ".join(f"'{names[live[i]]}' {share[i]:.0%}" for i in stuck[:4])
    more = f" and {len(stuck) - 4} more" if len(stuck) > 4 else ""
    return bad(
        SATURATION,
        f"{len(stuck)} joints have their residual at its end in most steps: {told}{more}",
        "the actor pushes against its limit: raise actor_base_weight or lower actor_lr; where the "
        "joint must go further, raise its residual_scale",
    )


def rewards(lines: Sequence[EpisodeLine], demo_successes: int | None = None) -> Finding:
    """Check that somebody ever gave a reward.

    Args:
        lines: Episodes of the run, newest verdicts.
        demo_successes: Successful demonstrations; None: not known.
    """
    counted = [e for e in lines if e.practice and e.counts]
    won = sum(e.success for e in counted)
    if demo_successes == 0:
        return bad(
            REWARDS,
            "no demonstration is a success: the learner would start without any reward",
            "record demos that succeed and press success at their end",
        )
    if counted and not won and len(counted) >= NO_REWARD_AFTER:
        return bad(
            REWARDS,
            f"not one of {len(counted)} practice episodes was a success",
            "check that success is pressed (button, oracle, classifier) and reaches the episode "
            "manager; else the base is too weak for this task: more demos, or easier scenes",
        )
    if not counted:
        if demo_successes is None:
            return skipped(REWARDS, "no practice episode yet")
        return good(REWARDS, f"{demo_successes} demonstrations end with a reward")
    return good(REWARDS, f"{won} of {len(counted)} practice episodes ended with a reward")


def success(lines: Sequence[EpisodeLine], guard: Guard) -> Finding:
    """Check that the residual is not below the base, in practice and in evaluation.

    In practice this is the manager's own rule: it falls back to the base by itself.

    Args:
        lines: Episodes of the run, newest verdicts.
        guard: With the run's settings.
    """
    practice = [e for e in lines if e.practice and e.rated]
    standing = guard.judge(
        Verdict(e.mode == "train" and e.use_residual and e.weights_version > 0, e.success)
        for e in practice
    )
    fix = (
        "nothing has to be stopped: the base acts alone for a while, then the residual is judged "
        "anew; if it comes again, look at the checks on Q and saturation, and at the rewards"
    )
    if standing.stepped_back:
        return bad(SUCCESS, f"in practice the run {standing.stepped_back}", fix)
    evaluated = {
        side: [e.success for e in lines if e.mode == "evaluate" and e.use_residual == side]
        for side in (False, True)
    }
    if all(evaluated.values()):
        base, ours = (wilson(sum(x), len(x)) for x in evaluated.values())
        told = (
            f"in evaluation the residual has {sum(evaluated[True])} of {len(evaluated[True])}, "
            f"the base {sum(evaluated[False])} of {len(evaluated[False])}"
        )
        if ours[1] < base[0]:
            return bad(
                SUCCESS,
                f"{told}: its interval lies below the base's",
                "use the base alone; train longer or with another seed before this one is used",
            )
        return good(SUCCESS, told)
    acted = [e for e in practice if e.mode == "train" and e.use_residual and e.weights_version]
    if not acted:
        return skipped(SUCCESS, "the residual has not acted yet")
    last = acted[-guard.window :]
    return good(
        SUCCESS, standing.on_trial or
        f"the residual had {sum(e.success for e in last)} of its last {len(last)}",
    )  # fmt: skip
