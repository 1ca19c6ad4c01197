"""Train the ACT base by behaviour cloning: L1 on chunks, deterministic for one seed and thread."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from resfit_core.action_space import ActionSpace
from resfit_core.base.act import Act, ActConfig, fields_of
from resfit_core.base.places import hand_places, place_count
from resfit_core.base.protocol import BaseError
from resfit_core.contract import Contract
from resfit_core.data.bag_reader import RecordedEpisode

Progress = Callable[[int, int, float], None]


@dataclasses.dataclass(frozen=True)
class BaseTrainConfig:
    """How the base is trained.

    Attributes:
        steps: optimiser steps; the learning rate falls to zero over them.
        batch_size: chunks per step.
        learning_rate: highest, after the warm-up.
        warmup_steps: over which it rises.
        weight_decay: AdamW's.
        grad_clip: largest gradient norm.
        observation_std_floor: least standard deviation of the z-score, per field's own unit.
        validation_share: share of the episodes held out to report the L1 on; 0: none.
        seed: of weights and batches.
        width: of every token of the net.
        encoder_layers: of the net.
        decoder_layers: of the net.
        points: keypoints per image; 0: the net looks at patches instead. Without images unused.
        place_weight: of the error in telling the hands' places, beside that of the chunk.
    """

    steps: int = 3000
    batch_size: int = 64
    learning_rate: float = 5e-4
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    grad_clip: float = 1.0
    observation_std_floor: float = 0.01
    validation_share: float = 0.0
    seed: int = 0
    width: int = 128
    encoder_layers: int = 2
    decoder_layers: int = 1
    points: int = 16
    place_weight: float = 0.5

    def __post_init__(self) -> None:
        """Refuse numbers that cannot work."""
        for name in ("steps", "batch_size", "learning_rate", "observation_std_floor", "width"):
            if not getattr(self, name) > 0:
                raise BaseError(f"{name} is {getattr(self, name)}, must be above 0")
        if self.points < 0 or self.place_weight < 0:
            raise BaseError(
                f"points is {self.points} and place_weight {self.place_weight}, "
                "both must be 0 or more"
            )
        if not 0 <= self.validation_share < 1:
            raise BaseError(f"validation_share is {self.validation_share}, must be in [0, 1)")


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training gave.

    Attributes:
        net: frozen, with the observation's statistics.
        space: action range of the demonstrations.
        l1: mean absolute error over the last tenth of training, normalised units.
        validation_l1: on the held-out episodes; None without.
        episodes: trained on.
        samples: chunks trained on.
        wall_s: time it took [s].
    """

    net: Act
    space: ActionSpace
    l1: float
    validation_l1: float | None
    episodes: int
    samples: int
    wall_s: float


@dataclasses.dataclass(frozen=True)
class _Chunks:
    """Every observation with the chunk that follows it; `mask` is 0 past the episode's end."""

    observation: torch.Tensor  # (n, obs_dim)
    images: torch.Tensor | None  # (n, cameras, size, size, 3) uint8
    action: torch.Tensor  # (n, chunk, action_dim)
    mask: torch.Tensor  # (n, chunk, 1)
    places: torch.Tensor | None = None  # (n, 3 * places) [m]


def train(
    demos: Sequence[RecordedEpisode],
    contract: Contract,
    config: BaseTrainConfig | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train on the successful ones of `demos`.

    Args:
        demos: Recorded under `contract`.
        contract: Layout of observation and action.
        config: Settings.
        progress: Called now and then with (step, steps, L1).

    Raises:
        BaseError: No successful demo is among them.
        ContractError: A demo was recorded under another contract.
    """
    config = config or BaseTrainConfig()
    for demo in demos:
        contract.require(demo.contract_sha256, f"demo {demo.episode}")
    good = [demo for demo in demos if demo.verdict.success]
    held = round(config.validation_share * len(good))
    kept = good[: len(good) - held]
    if not kept:
        raise BaseError(
            f"none of {len(demos)} demos is a success to train on; record some with 'make demos'"
        )
    begin = time.monotonic()
    points = config.points if contract.images and contract.hands else 0
    space = ActionSpace.from_demos(np.concatenate([demo.action_rad for demo in kept]))
    with _one_thread():
        torch.manual_seed(config.seed)
        net = Act(
            ActConfig(
                fields=fields_of(contract.layout),
                action_dim=contract.action_dim,
                cameras=len(contract.images),
                image_size=contract.image_size,
                points=points,
                places=place_count(contract) if points else 0,
                width=config.width,
                encoder_layers=config.encoder_layers,
                decoder_layers=config.decoder_layers,
                feedforward=2 * config.width,
            )
        )
        seen = np.concatenate([demo.observation[:-1] for demo in kept]).astype(np.float64)
        net.obs_mean.copy_(torch.from_numpy(seen.mean(axis=0)))
        std = np.maximum(seen.std(axis=0), config.observation_std_floor)
        net.obs_std.copy_(torch.from_numpy(std))
        places = contract if points else None
        data = _chunks(kept, space, net.config.chunk, places)
        if data.places is not None:
            net.place_mean.copy_(data.places.mean(0))
            net.place_std.copy_(data.places.std(0).clamp_min(config.observation_std_floor))
        l1 = _fit(net, data, config, progress)
        validation = None
        if held:
            validation = _l1(net, _chunks(good[-held:], space, net.config.chunk, places))
    net.eval().requires_grad_(False)
    wall_s = time.monotonic() - begin
    return Trained(net, space, l1, validation, len(kept), len(data.observation), wall_s)


def _chunks(
    demos: Sequence[RecordedEpisode],
    space: ActionSpace,
    length: int,
    places_of: Contract | None = None,
) -> _Chunks:
    """Cut the demos; with the places of that contract's hands, where it is given."""
    observations, images, actions, masks, places = [], [], [], [], []
    for demo in demos:
        steps = demo.steps
        index = np.arange(steps)[:, None] + np.arange(length)
        normalised = space.to_norm(demo.action_rad)
        actions.append(normalised[np.minimum(index, steps - 1)])
        masks.append((index < steps).astype(np.float32))
        observations.append(demo.observation[:-1])
        if places_of is not None:
            joints = demo.observation[:, places_of.layout["joint_position"]]
            found = hand_places(places_of, joints, demo.action_rad)[:-1]
            places.append(found.reshape(steps, -1).astype(np.float32))
        if demo.images:
            images.append(np.stack([camera[:-1] for camera in demo.images], axis=1))
    return _Chunks(
        torch.from_numpy(np.concatenate(observations)),
        torch.from_numpy(np.concatenate(images)) if images else None,
        torch.from_numpy(np.concatenate(actions)),
        torch.from_numpy(np.concatenate(masks))[..., None],
        torch.from_numpy(np.concatenate(places)) if places else None,
    )


def _fit(net: Act, data: _Chunks, config: BaseTrainConfig, progress: Progress | None) -> float:
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.AdamW(
        net.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    tail: list[float] = []
    batches = _batches(len(data.observation), config.batch_size, generator)
    for step in range(1, config.steps + 1):
        index = next(batches)
        loss, missed = _losses(net, data, index)
        optimizer.zero_grad(set_to_none=True)
        (loss + config.place_weight * missed).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), config.grad_clip)
        optimizer.step()
        schedule.step()
        if step > 0.9 * config.steps:
            tail.append(loss.item())
        if progress is not None and (step % 20 == 0 or step == config.steps):
            progress(step, config.steps, loss.item())
    return float(np.mean(tail))


def _losses(
    net: Act, data: _Chunks, index: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | float]:
    """Return the L1 of the chunk, normalised, and of the places, z-scored."""
    images = None if data.images is None else data.images[index]
    found, places = net.plan(data.observation[index], images)
    mask = data.mask[index]
    error = (found - data.action[index]).abs() * mask
    loss = error.sum() / (mask.sum() * found.shape[-1])
    if places is None or data.places is None:
        return loss, 0.0
    told = (data.places[index] - net.place_mean) / net.place_std
    return loss, (places - told).abs().mean()


@torch.no_grad()
def _l1(net: Act, data: _Chunks, batch: int = 256) -> float:
    total = weight = 0.0
    for index in torch.arange(len(data.observation)).split(batch):
        entries = float(data.mask[index].sum())
        total += float(_losses(net, data, index)[0]) * entries
        weight += entries
    return total / weight


def _rate(step: int, config: BaseTrainConfig) -> float:
    """Rise linearly, then fall to zero on half a cosine."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))


def _batches(count: int, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Go through all samples in a new order each time, for ever; the rest of a pass is dropped."""
    size = min(size, count)
    while True:
        order = torch.randperm(count, generator=generator)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: sums in another order would give other weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
