"""The residual policy as the robot runs it: base action in, executed proposal out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from resfit_core import tensorfile
from resfit_core.algorithms.config import TrainConfig
from resfit_core.algorithms.exploration import ExplorationNoise
from resfit_core.base.sight import Sight
from resfit_core.control.combine import combine
from resfit_core.data.episode import EVALUATE, TRAIN, WARMUP
from resfit_core.nets.actor import ResidualActor
from resfit_core.nets.encoder import Encoders, VisionSizes
from resfit_core.nets.normaliser import Normaliser
from resfit_core.nets.views import View
from resfit_core.nets.vision import ImageActor, Seen

_Nets = tuple[Normaliser, ResidualActor | ImageActor, Encoders | None]
WEIGHTS_FORMAT = "resfit-weights-1"


MOST_BYTES = 1 << 28
"""Weights larger than this are refused unread [bytes]."""

BASE_ALONE = "base"
"""Identity of every policy that leaves the base alone."""

MOST_WIDE = 1 << 14
"""Largest size of a layer, observation or action that weights may name."""


MOST_LARGE = 1e6
"""Largest number in a tensor: beyond it an action may overflow, and not be a number."""

MOST_COUNTED = 2**32 - 1
"""Largest version and number of updates, as in `PolicyWeights`."""


class WeightsError(ValueError):
    """Weights that are damaged or belong to another contract, base or shape."""


class ResidualPolicy:
    """Adds the residual and, in warm-up and training episodes, exploration noise.

    Without weights, and in warm-up, the base acts alone. Not thread-safe.
    """

    def __init__(
        self,
        config: TrainConfig,
        scale: np.ndarray,
        contract_sha256: str,
        base_sha256: str,
        control_rate_hz: float,
        view: View | None = None,
        sight: Sight | None = None,
    ) -> None:
        """Start without weights.

        Args:
            config: the settings; noise and seed are used here.
            scale: reach of the residual per joint, from `resolve_scale`. Shape (act_dim,).
            contract_sha256: weights of another contract are refused.
            base_sha256: weights for another base are refused.
            control_rate_hz: turns the noise's correlation time into steps [Hz].
            view: what the actor sees, from `make_view`; None: the vectors as they are.
            sight: turns the images into numbers of the observation, as in the learner; or None.
        """
        self._sight = sight
        self._view = view
        self._critic_view = config.critic_view
        self._seed = config.seed
        self._scale = np.asarray(scale, np.float32)
        self._hashes = {"contract_sha256": contract_sha256, "base_sha256": base_sha256}
        correlation = config.exploration_correlation_s * control_rate_hz
        self._noise = {
            WARMUP: ExplorationNoise(
                config.warmup_kind, config.warmup_std * self._scale, correlation
            ),
            TRAIN: ExplorationNoise(
                config.exploration_kind, config.exploration_std * self._scale, correlation
            ),
        }
        self.observes_last_action = config.observe_last_action
        self._executed = np.zeros_like(self._scale)
        self._net: _Nets | None = None
        self._mode = EVALUATE
        self._use_residual = True
        self.version = 0
        self.updates = 0

    def load(self, data: bytes, sha256: str | None = None) -> int:
        """Take new weights; call it between episodes only. On error the old ones stay.

        Args:
            data: bytes of `Learner.weights_bytes`.
            sha256: hash that came with them; None: not checked.

        Returns:
            The version of the weights.

        Raises:
            WeightsError: wrong hash, damaged bytes, another contract, base, shape or scale.
        """
        if len(data) > MOST_BYTES:
            raise WeightsError(
                f"weights: {len(data)} bytes, {MOST_BYTES} at most are taken; no learner of ours "
                "sends so many"
            )
        if sha256 is not None and tensorfile.sha256(data) != sha256:
            raise WeightsError(
                f"weights: hash is {tensorfile.sha256(data)[:12]}…, announced {sha256[:12]}…; "
                "they were damaged on the way, ask for them again"
            )
        try:
            tensors, header = tensorfile.unpack(data, "weights")
        except tensorfile.TensorFileError as error:
            raise WeightsError(str(error)) from error
        try:
            self._check(tensors, header)
            net = _build(tensors, header, self._view)
            version, updates = int(header["version"]), int(header["updates"])
        except WeightsError:
            raise
        except (
            LookupError, TypeError, ValueError, AttributeError, RuntimeError, MemoryError,
            OverflowError,
        ) as error:  # fmt: skip
            raise WeightsError(
                f"weights: header or tensors are not those of a learner of ours ({error!r})"
            ) from error
        self._net, self.version, self.updates = net, version, updates
        return self.version

    def begin_episode(self, seed: int, mode: int, use_residual: bool = True) -> None:
        """Start the noise anew, from the run's seed and this episode's alone.

        Args:
            seed: scene seed or number of the episode.
            mode: WARMUP, TRAIN, EVALUATE or DEMO.
            use_residual: False: pass the base action on unchanged (base evaluation).
        """
        self._mode, self._use_residual = mode, use_residual
        self._executed = np.zeros_like(self._scale)
        if mode in self._noise:
            self._noise[mode].begin(np.random.default_rng([self._seed, seed, 2]))

    def act(
        self,
        observation: np.ndarray,
        base_action: np.ndarray,
        chunk_phase: float,
        *,
        explore: bool = True,
        images: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, bool]:
        """Return the proposal for one step.

        Args:
            observation: contract units. Shape (obs_dim,).
            base_action: normalised. Shape (act_dim,).
            chunk_phase: place in the chunk, [0, 1).
            explore: False: no noise, whatever the mode.
            images: camera to uint8 (H, W, 3); needed where the weights are for images.

        Returns:
            Normalised action of shape (act_dim,), and whether noise was added. Without weights and
            noise the action equals the base's to the bit.
        """
        noise = None
        if explore and self._use_residual and self._mode in self._noise:
            noise = self._noise[self._mode].step()
        active = self._net is not None and self._use_residual
        if not active or self._mode not in (TRAIN, EVALUATE):
            if noise is None:
                return np.clip(np.asarray(base_action, np.float32), -1.0, 1.0), False
            return combine(base_action, np.zeros_like(self._scale), self._scale, noise), True
        residual = self._residual(observation, base_action, chunk_phase, images or {})
        return combine(base_action, residual, self._scale, noise), noise is not None

    def executed(self, action_norm: np.ndarray) -> None:
        """Take what was executed of the last action; the next one sees it if the settings say so.

        Args:
            action_norm: normalised. Shape (act_dim,).
        """
        # As the replay holds it: both must round alike.
        self._executed = np.asarray(action_norm, np.float32)

    def identity(self, use_residual: bool) -> str:
        """Name what acts in an evaluation now; see `loop.Policy`."""
        # The weights of a run are a function of its updates.
        return f"{self.updates} updates" if use_residual and self._net else BASE_ALONE

    def seen(self, observation: np.ndarray) -> torch.Tensor:
        """Return the observation as the nets take it, with the last action where that is seen."""
        parts = [np.asarray(observation, np.float32)]
        parts += [self._executed] if self.observes_last_action else []
        return torch.from_numpy(np.concatenate(parts)[None])

    @torch.inference_mode()
    def _residual(
        self,
        observation: np.ndarray,
        base_action: np.ndarray,
        chunk_phase: float,
        images: Mapping[str, np.ndarray],
    ) -> np.ndarray:
        normaliser, actor, encoder = self._net
        if self._sight is not None:
            rows = {name: np.asarray(image)[None] for name, image in images.items()}
            observation = self._sight.extend(observation[None], rows)[0]
        obs = self.seen(observation)
        base = torch.from_numpy(np.array(base_action, np.float32)[None])
        seen = normaliser(obs)
        if self._view is not None:
            seen = self._view.actor_observation(seen, obs, base)
        if encoder is not None:
            missing = sorted(set(encoder.cameras) - set(images))
            if missing:
                raise ValueError(f"images lack {missing}, which the residual was trained with")
            tokens = encoder(
                {
                    camera: torch.from_numpy(np.ascontiguousarray(images[camera]))[None].permute(
                        0, 3, 1, 2
                    )
                    for camera in encoder.cameras
                }
            )
            seen = Seen(seen, tokens)
        return actor(seen, base, torch.full((1, 1), float(chunk_phase)))[0].numpy()

    def _check(self, tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
        if header.get("format") != WEIGHTS_FORMAT:
            raise WeightsError(
                f"weights: format is {header.get('format')!r}, expected {WEIGHTS_FORMAT!r}; "
                "run learner and residual from the same release"
            )
        for name, array in tensors.items():
            if array.dtype != np.float32:
                raise WeightsError(f"weights: tensor '{name}' is {array.dtype}, not float32")
            if not (np.abs(array) <= MOST_LARGE).all():
                raise WeightsError(
                    f"weights: tensor '{name}' is not finite or passes {MOST_LARGE:g}; the old "
                    "ones stay"
                )
        sizes = {key: header.get(key) for key in ("obs_dim", "act_dim", "actor_width")}
        for key, value in sizes.items():
            # Nets are made of these sizes before their tensors are looked at.
            if not isinstance(value, int) or not 0 < value <= MOST_WIDE:
                raise WeightsError(f"weights: {key} is {value!r}, 1 to {MOST_WIDE} are taken")
        if not (tensors["normaliser.std"] > 0).all():
            raise WeightsError(
                "weights: tensor 'normaliser.std' must be above 0; the old ones stay"
            )
        for key in ("version", "updates"):
            value = header[key]
            if not isinstance(value, int) or not 0 <= value <= MOST_COUNTED:
                raise WeightsError(f"weights: {key} is {value!r}, 0 to {MOST_COUNTED} are taken")
        clip = header["observation_clip"]
        if not isinstance(clip, int | float) or not 0 < clip <= MOST_LARGE:
            raise WeightsError(f"weights: observation_clip is {clip!r}, it must be above 0")
        for name, mine in self._hashes.items():
            if header[name] != mine:
                raise WeightsError(
                    f"weights: {name} is {header[name][:12]}…, this policy runs {mine[:12]}…; "
                    "start learner and residual with the same robot, task and base"
                )
        if header["critic_view"] != self._critic_view:
            raise WeightsError(
                f"weights: critic_view is {header['critic_view']!r}, this policy's is "
                f"{self._critic_view!r}; start both with the same train settings"
            )
        if header.get("observe_last_action", False) != self.observes_last_action:
            raise WeightsError(
                "weights: observe_last_action differs from this policy's; "
                "start both with the same train settings"
            )
        if not np.array_equal(tensors.get("scale"), self._scale):
            raise WeightsError(
                "weights: residual_scale differs from this policy's; "
                "start both with the same train settings"
            )


def _build(tensors: dict[str, np.ndarray], header: dict[str, Any], view: View | None) -> _Nets:
    added = header["act_dim"] if header.get("observe_last_action", False) else 0
    normaliser = Normaliser(header["obs_dim"] + added, clip=header["observation_clip"])
    obs_dim = view.actor_obs_dim if view is not None else header["obs_dim"] + added
    sizes = (obs_dim, header["act_dim"], header["actor_width"])
    shapes = header.get("image_shapes") or {}
    encoder = None
    actor: ResidualActor | ImageActor
    if shapes:
        generator, vision = torch.Generator(), VisionSizes(*header["vision"])
        encoder = Encoders(shapes, vision, generator)
        actor = ImageActor(
            encoder.tokens, vision, *sizes, layer_norm=header["layer_norm"], generator=generator
        )
    else:
        columns = None if view is None else view.base_columns
        actor = ResidualActor(*sizes, layer_norm=header["layer_norm"], base_columns=columns)
    nets = {"normaliser.": normaliser, "actor.": actor, "encoder.": encoder}
    for prefix, net in nets.items():
        if net is None:
            continue
        state = {
            name[len(prefix) :]: torch.from_numpy(array.copy())
            for name, array in tensors.items()
            if name.startswith(prefix)
        }
        net.load_state_dict(state)
        net.requires_grad_(False)
    return normaliser, actor, encoder
