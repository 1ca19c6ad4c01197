"""Training from pixels end to end: only the image tells on which side the base misses."""

import dataclasses

import numpy as np
import toy
from learning_cases import BASE, CONTRACT

from resfit_core.algorithms.config import TrainConfig
from resfit_core.learner import Learner
from resfit_core.loop import LoopConfig, Observation, StepResult, train
from resfit_core.residual import ResidualPolicy

SHAPE = {"top": (16, 16, 3)}


def drawn(side):
    """One half of the image is bright: the half that tells where the base misses."""
    image = np.zeros(SHAPE["top"], np.uint8)
    image[:, :8] = 250 * (side < 0)
    image[:, 8:] = 250 * (side > 0)
    return {"top": image}


class TwoSided(toy.PegEnv):
    """The toy whose base misses left or right, as the seed has it; the vector does not tell."""

    def reset(self, seed):
        self.side = 1 if seed % 2 else -1
        return Observation(super().reset(seed), drawn(self.side))

    def step(self, action_norm):
        seen, success, done, _ = tuple(super().step(action_norm))[:4]
        return StepResult(Observation(seen, drawn(self.side)), success, done)


class TwoSidedBase(toy.MissingBase):
    """Aims beside the goal on the side that the image shows."""

    def act(self, observation, images):
        side = 1.0 if images["top"][0, 0, 0] == 0 else -1.0
        self._offset = np.array([0.16 * side, 0.0])
        return super().act(observation)


def test_learning_from_an_image(tmp_path):
    config = TrainConfig.from_mapping(
        {
            "heads": 4,
            "critic_width": 64,
            "actor_width": 64,
            "batch_size": 64,
            "n_step": 3,
            "gamma": 0.97,
            "warmup_episodes": 6,
            "critic_warmup_updates": 200,
            "utd": 2,
            "actor_every": 2,
            "critic_lr": 1e-3,
            "actor_lr": 1e-3,
            "actor_pessimism": 0.0,
            "vision_width": 16,
            "vision_heads": 2,
            "vision_embedding": 32,
            "vision_actor_width": 16,
            "image_shift": 1,
        }
    )
    scale = np.full(2, 0.3, np.float32)
    learner = Learner(config, 4, 2, scale, CONTRACT, BASE, image_shapes=SHAPE)
    for number, demo in enumerate(toy.demos(10, CONTRACT, BASE)):
        shown = drawn(1 if number % 2 else -1)["top"]
        images = {"top": np.repeat(shown[None], demo.steps + 1, 0)}
        learner.add_demos([dataclasses.replace(demo, images=images)])
    policy = ResidualPolicy(config, scale, CONTRACT, BASE, 20.0)
    schedule = LoopConfig(episodes=40, final_episodes=40)
    result = train(TwoSided(), TwoSidedBase(), learner, policy, schedule)
    assert np.mean(result["base"]) < 0.6
    assert np.mean(result["residual"]) > np.mean(result["base"]) + 0.2
