"""Gymnasium environments, bases and demonstrations for tests of the front end."""

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

HORIZON = 12
CHUNK = 4
SMALL = [
    *("--set", "critic_width=16", "--set", "actor_width=16", "--set", "heads=2"),
    *("--set", "batch_size=16", "--set", "warmup_episodes=2", "--set", "critic_warmup_updates=5"),
    *("--set", "actor_lr=1e-3", "--set", "critic_lr=1e-3"),
]


class Slide(gymnasium.Env):
    """A point slides to a goal on a line; observation: position, goal; action in mm."""

    shown = staticmethod(lambda position, goal: np.array([position, goal], np.float32))

    def __init__(self):
        self.observation_space = spaces.Box(-10, 10, (2,), np.float32)
        self.action_space = spaces.Box(-100.0, 100.0, (1,), np.float32)
        self.seeds, self.taken, self.on_step = [], [], None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.goal = self.np_random.uniform(0.35, 0.6)
        self.position, self.steps = 0.0, 0
        return self.shown(self.position, self.goal), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.taken.append(action)
        self.position += float(action[0]) / 1000
        self.steps += 1
        if self.on_step:
            self.on_step(self)
        return self.shown(self.position, self.goal), 5.0, *self.verdict()

    def verdict(self):
        success = abs(self.position - self.goal) < 0.02
        return success, self.steps >= HORIZON and not success, {"is_success": success}


class Falling(Slide):
    """Past the goal the point falls: terminated without success."""

    def verdict(self):
        success = abs(self.position - self.goal) < 0.02
        fallen = self.position > self.goal + 0.05
        return success or fallen, self.steps >= HORIZON, {"success": float(success)}


class Silent(Slide):
    """Never says whether it succeeded."""

    def verdict(self):
        return False, self.steps >= HORIZON, {"distance": 1.0}


class Seen(Slide):
    """The goal is only in a picture, channels first, larger than the residual's."""

    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Dict(
            {
                "position": spaces.Box(-10, 10, (1,), np.float32),
                "top": spaces.Box(0, 255, (3, 96, 128), np.uint8),
                "wrist": spaces.Box(0, 255, (24, 24, 3), np.uint8),
            }
        )

    @staticmethod
    def shown(position, goal):
        top = np.zeros((3, 96, 128), np.uint8)
        top[1, :, 16 : 16 + int(goal * 96)] = 255
        wrist = np.full((24, 24, 3), int(abs(position) * 100) % 256, np.uint8)
        return {"position": np.array([position], np.float32), "top": top, "wrist": wrist}


ENVS = []


def _made(kind):
    def factory(seed):
        ENVS.append(kind())
        ENVS[-1].factory_seed = seed
        return ENVS[-1]

    return factory


slide, falling, silent, seen = _made(Slide), _made(Falling), _made(Silent), _made(Seen)
number = 3


def broken(seed):
    raise RuntimeError(f"no licence\nfor seed {seed}")


def nothing(seed):
    return object()


def odd_action(seed):
    env = Slide()
    env.action_space = spaces.Discrete(3)
    return env


def odd_observation(seed):
    env = Slide()
    env.observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    return env


def grey(seed):
    env = Seen()
    env.observation_space.spaces["top"] = spaces.Box(0, 255, (96, 96), np.uint8)
    return env


def liar(seed):
    """Its observation space says three numbers, it shows two."""
    env = Slide()
    env.observation_space = spaces.Box(-10, 10, (3,), np.float32)
    return env


def base(observation):
    """Go to 10 mm before a near goal and to 30 mm, which is too far off, before a far one."""
    goal = observation[:, 1]
    wanted = (goal - observation[:, 0] - np.where(goal > 0.475, 0.03, 0.01)) * 1000
    steps = np.stack([np.clip(wanted - 60 * k, -20, 60) for k in range(CHUNK)], 1)
    return steps[:, :, None]


def seen_base(observation):
    """Read the goal off the full picture, as the environment gives it."""
    assert observation["top"].shape[1:] == (3, 96, 128)
    assert observation["wrist"].shape[1:] == (24, 24, 3)
    goal = (observation["top"][:, 1, 0] > 0).sum(1) / 96
    return base(np.stack([observation["position"][:, 0], goal], 1))


def scaled_base(observation):
    return base(observation) * 0.5


def flat_base(observation):
    return base(observation)[:, 0]


def nan_base(observation):
    return base(observation) * np.nan


def late_inf_base(observation):
    """Fails only where the goal is far."""
    return base(observation) / np.where(observation[:, 1] > 0.5, 0, 1)[:, None, None]


class Scripted(torch.nn.Module):
    """The same as `base`, as TorchScript."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        goal = observation[:, 1]
        beside = torch.where(goal > 0.475, 0.03, 0.01)
        wanted = (goal - observation[:, 0] - beside) * 1000
        steps = torch.stack([(wanted - 60.0 * k).clamp(-20.0, 60.0) for k in range(4)], 1)
        return steps.unsqueeze(2)


def record(env, episodes=4):
    """Return demonstrations in the file's format."""
    rows = {f"obs.{key}" if key else "obs": [] for key in _keys(env)}
    actions, ends = [], []
    for seed in range(episodes):
        shown, _ = env.reset(seed=3_000_000 + seed)
        over = False
        while not over:
            parts = shown if isinstance(shown, dict) else {"": shown}
            for key, value in parts.items():
                rows[f"obs.{key}" if key else "obs"].append(value)
            # A step back first, so that the range of actions holds both directions.
            action = np.clip([(env.goal - env.position) * 1000], -60, 60).astype(np.float32)
            action = np.array([-20], np.float32) if env.steps == 0 else action
            actions.append(action)
            shown, _, over, late, _ = env.step(action)
            assert not late
        ends.append(len(actions))
    arrays = {name: np.stack(values) for name, values in rows.items()}
    return {**arrays, "actions": np.stack(actions), "episode_ends": np.array(ends)}


def _keys(env):
    space = env.observation_space
    return list(space.spaces) if isinstance(space, spaces.Dict) else [""]


def command(folder, *more, env="slide", base="gym_cases:base", demos=None, small=True):
    """Return the arguments of a short run, demonstrations written into `folder`."""
    path = folder / "demos.npz"
    if demos is None:
        kind = {"seen": Seen, "grey": Seen}.get(env, Slide)
        demos = record(kind())
    np.savez(path, **demos)
    return [
        *("--env", f"gym_cases:{env}", "--base", base, "--demos", str(path)),
        *("--out", str(folder / "out"), "--steps", "60", "--eval-every", "20"),
        *("--eval-episodes", "4", "--final-episodes", "6"),
        *(SMALL if small else []),
        *more,
    ]
