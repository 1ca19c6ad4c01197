"""Every number of residual off-policy training, as one frozen dataclass.

The defaults suit a two-core machine and state observations; `config/train/paper.yaml` holds the
published numbers. Noise is given as a share of each joint's residual scale, so that a joint with
scale 0 is never disturbed; the paper's exploration of .05 at scale .2 is 0.25 here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core.algorithms import settings
from resfit_core.algorithms.settings import ConfigError, setting
from resfit_core.control.guard import Guard
from resfit_core.nets.encoder import VisionSizes

NOISE_KINDS = ("white", "uniform", "ou", "episode", "mixed")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run; each field says what it is in its metadata."""

    # Networks
    heads: int = setting(10, "critic heads", least=1, most=100)
    target_heads: int = setting(2, "random target heads the minimum is taken over", least=1)
    critic_width: int = setting(128, "units per hidden layer of the critic", least=1)
    actor_width: int = setting(256, "units per hidden layer of the actor", least=1)
    layer_norm: bool = setting(True, "LayerNorm in actor and critic")
    critic_view: str = setting(
        "raw",
        "raw: vectors as they are; task_space: the action as the hand seen from the objects; "
        "relative: and without the objects' absolute places and the wrenches; relative_wrench: "
        "without the places alone; lean: as relative, and the actor sees as little",
        choices=("raw", "task_space", "relative", "relative_wrench", "lean"),
    )
    observe_last_action: bool = setting(
        False,
        "actor and critic also see the action executed last, normalised; 0 at an episode's start",
    )
    critic_output_init: float = setting(3e-3, "half-range of the critic's last layer", least=0)
    observation_std_floor: float = setting(
        0.01, "least standard deviation in the z-score, observation units (paper: 0.1)", above=0
    )
    observation_clip: float = setting(10.0, "largest z-score", above=0)

    # Critic
    batch_size: int = setting(128, "samples per update", least=1)
    gamma: float = setting(0.99, "discount per control step", least=0, most=1)
    n_step: int = setting(10, "longest window, control steps", least=1, most=1000)
    timeout_bootstrap: bool = setting(
        True,
        "a time-out only cuts the episode, and its last observation's value counts; false: the "
        "task had its time, so that a time-out earns nothing, like a failure",
    )
    tau: float = setting(0.005, "share by which targets move per critic update", above=0, most=1)
    critic_lr: float = setting(3e-4, "learning rate of the critic", least=0)
    actor_lr: float = setting(1e-4, "learning rate of the actor (paper: 1e-6 to 5e-6)", least=0)
    weight_decay: float = setting(0.01, "AdamW's decoupled decay", least=0)
    grad_clip: float = setting(1.0, "largest gradient norm; 0: no clipping", least=0)
    target_noise_std: float = setting(
        0.25, "noise on the target action, share of the residual scale", least=0
    )
    target_noise_clip: float = setting(
        1.5, "largest such noise, share of the residual scale", least=0
    )
    target_clip: bool = setting(
        False, "clip targets to [0, 1], all that a 0/1 reward at the end can give"
    )
    target_actor: bool = setting(
        False, "slow copy of the actor in the target; published: the current actor"
    )

    # Actor
    actor_every: int = setting(4, "critic updates per actor update", least=1)
    actor_dropout: float = setting(
        0.0, "share of the actor's hidden units that each update leaves out", least=0, most=0.9
    )
    actor_average: float = setting(
        0.0,
        "a running average of the actor acts in its place, over this share of its updates so far; "
        "0: the actor acts",
        least=0,
        most=1,
    )
    actor_bc_weight: float = setting(
        0.0, "weight of the pull towards demo actions (dimensionless error^2)", least=0
    )
    actor_bc_min: float = setting(0.0, "weight the pull decays to", least=0)
    actor_bc_decay_updates: int = setting(
        0, "actor updates over which the pull decays linearly; 0: it stays", least=0
    )
    actor_bc_q_filter: bool = setting(False, "pull only where Q prefers the demo action")
    actor_base_weight: float = setting(
        0.01,
        "weight of the residual's own size, sum over moved joints of tanh(residual)^2",
        least=0,
    )
    actor_pessimism: float = setting(
        1.0,
        "standard deviations over the heads by which an action must be worth more than the base's "
        "(published: 0, the heads' mean alone)",
        least=0,
    )
    actor_pessimism_half_updates: int = setting(
        0,
        "critic updates after warm-up that halve the pessimism; 0: it stays",
        least=0,
    )

    # Residual and exploration
    residual_scale: float | Mapping[str, float] = setting(
        0.3,
        "reach of the residual in normalised action units: one number, or joint group to number",
    )
    exploration_kind: str = setting(
        "mixed", "white, uniform, ou, episode (one offset each), mixed", choices=NOISE_KINDS
    )
    exploration_std: float = setting(
        0.05, "exploration in training episodes, share of the residual scale", least=0
    )
    warmup_kind: str = setting("mixed", "as exploration_kind, for warm-up", choices=NOISE_KINDS)
    warmup_std: float = setting(
        0.1, "exploration in warm-up episodes, share of the residual scale", least=0
    )
    exploration_correlation_s: float = setting(
        0.25, "correlation time of `ou` and `mixed` noise [s]", above=0
    )

    # Schedule
    warmup_episodes: int = setting(10, "episodes of base plus noise before learning", least=0)
    critic_warmup_updates: int = setting(
        1500, "critic-only updates before the actor is switched on; not part of utd", least=0
    )
    utd: float = setting(1.0, "critic updates per environment step once learning began", least=0)
    max_updates_owed: int = setting(
        200, "the run waits between episodes while more updates than this are owed", least=0
    )

    # Guard: the residual is on trial until it is shown to be better; back to the base where worse
    guard_confidence: float = setting(
        0.8,
        "of the success intervals of residual and base that must not meet; 0: no guard",
        least=0,
        most=0.999,
    )
    guard_proof: float = setting(
        0.9,
        "confidence that the residual gains over the base by which its trial ends",
        least=0.5,
        most=0.999,
    )
    guard_window: int = setting(20, "newest episodes of the residual that count", least=1)
    guard_pause: int = setting(10, "episodes of the base alone after a step back", least=1)

    # Data
    demo_fraction: float = setting(0.5, "share of each batch from the demo half", least=0, most=1)
    demo_sampling: str = setting(
        "transition",
        "demo half drawn by transition or by episode",
        choices=("transition", "episode"),
    )
    successes_to_demos: bool = setting(False, "online successes join the demo half")
    replay_capacity: int = setting(200_000, "rows of the online ring", least=2)
    demo_capacity: int = setting(100_000, "rows of the demo ring", least=2)

    # Pixels
    image_features: str = setting(
        "encoder",
        "encoder: a ViT per camera, trained by the critic (published); base: the places that the "
        "frozen base sees join the observation, and no image goes into the replay",
        choices=("encoder", "base"),
    )
    vision_width: int = setting(128, "units of an image token", least=1)
    vision_heads: int = setting(4, "attention heads; divides vision_width", least=1)
    vision_embedding: int = setting(1024, "units of the critic's spatial embedding", least=1)
    vision_actor_width: int = setting(128, "units the actor compresses the tokens to", least=1)
    image_shift: int = setting(4, "largest random shift of training images [px]", least=0)

    # Machine
    device: str = setting(
        "cpu", "of the learner; auto: a GPU where there is one", choices=("cpu", "cuda", "auto")
    )
    seed: int = setting(0, "of everything random", least=0)
    torch_threads: int = setting(1, "threads of one update", least=1, most=256)
    kernels: str = setting(
        "torch",
        "native: what lies between the critic's products, and the copying of frames out of the "
        "replay, as C++ compiled on first use (needs g++)",
        choices=("torch", "native"),
    )
    matmul_dtype: str = setting(
        "float32",
        "factors of matrix products and convolutions; sums and everything stored are float32",
        choices=("float32", "bfloat16"),
    )

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigError: a value has the wrong type, is out of range or contradicts another.
        """
        settings.check(self)
        object.__setattr__(self, "residual_scale", _checked_scale(self.residual_scale))
        if self.target_heads > self.heads:
            raise ConfigError(
                f"target_heads is {self.target_heads}, more than heads ({self.heads}); lower it"
            )
        if self.actor_bc_min > self.actor_bc_weight:
            raise ConfigError(
                f"actor_bc_min is {self.actor_bc_min}, above actor_bc_weight "
                f"({self.actor_bc_weight}); the pull only decays"
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str = "settings") -> TrainConfig:
        """Build from a mapping; unknown keys are refused with the nearest known ones."""
        return settings.from_mapping(cls, values, where)

    @classmethod
    def from_yaml(cls, path: str | Path) -> TrainConfig:
        """Build from a YAML file; keys left out keep their defaults."""
        return settings.from_yaml(cls, path)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as YAML and JSON take them."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> TrainConfig:
        """Return a copy with some settings changed."""
        return self.from_mapping({**self.to_dict(), **changes})

    def pessimism(self, critic_updates: int) -> float:
        """Return the actor's pessimism after so many critic updates, warm-up included."""
        if not self.actor_pessimism_half_updates:
            return self.actor_pessimism
        learned = max(0, critic_updates - self.critic_warmup_updates)
        return self.actor_pessimism / (1.0 + learned / self.actor_pessimism_half_updates)

    def guard(self) -> Guard:
        """Return what decides between residual and base."""
        return Guard(self.guard_confidence, self.guard_proof, self.guard_window, self.guard_pause)

    def vision(self) -> VisionSizes:
        """Return the sizes of the nets that only images need."""
        return VisionSizes(
            self.vision_width, self.vision_heads, self.vision_embedding, self.vision_actor_width
        )

    def actor_bc(self, actor_updates: int) -> float:
        """Return the weight of the pull towards demo actions after so many actor updates."""
        if not self.actor_bc_decay_updates:
            return self.actor_bc_weight
        left = max(0.0, 1.0 - actor_updates / self.actor_bc_decay_updates)
        return self.actor_bc_min + (self.actor_bc_weight - self.actor_bc_min) * left


def saved_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's settings, with those that the code did not know then.

    A setting that comes to `TrainConfig` leaves by its default everything as it was, so that a run
    goes on with a newer release.
    """
    return {**TrainConfig().to_dict(), **values}


def resolve_scale(scale: float | Mapping[str, float], groups: Sequence[str]) -> np.ndarray:
    """Return the residual's reach per joint.

    Args:
        scale: one number for all joints, or joint group to number; the group `default` stands for
            all that are not named.
        groups: group of each joint, in contract order.

    Returns:
        float32 of shape (act_dim,), normalised action units.

    Raises:
        ConfigError: a named group does not exist, or a joint's group has no number.
    """
    scale = _checked_scale(scale)
    if not isinstance(scale, Mapping):
        return np.full(len(groups), scale, np.float32)
    unknown = sorted(set(scale) - set(groups) - {"default"})
    if unknown:
        raise ConfigError(
            f"residual_scale names the joint groups {unknown}; this robot has "
            f"{sorted(set(groups))}"
        )
    missing = sorted(set(groups) - set(scale))
    if missing and "default" not in scale:
        raise ConfigError(f"residual_scale lacks {missing}; name them or give a `default`")
    return np.array([scale.get(group, scale.get("default")) for group in groups], np.float32)


def _checked_scale(scale: Any) -> float | dict[str, float]:
    try:
        if isinstance(scale, Mapping):
            result: float | dict[str, float] = {str(k): float(v) for k, v in scale.items()}
        else:
            result = float(scale)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"residual_scale is {scale!r}, expected a number or joint group to number"
        ) from error
    values = list(result.values()) if isinstance(result, dict) else [result]
    if not values or not all(0.0 <= value <= 2.0 for value in values):
        raise ConfigError(f"residual_scale is {scale!r}, every number must lie in [0, 2]")
    return result
