"""The frozen base behind `--base`: TorchScript or a callable, in the environment's actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resfit_core import tensorfile
from resfit_core.action_space import ActionSpace
from resfit_core.base.action_space import kind_of
from resfit_core.base.protocol import BaseError, ChunkedBase, Images
from resfit_core.train.errors import one_line
from resfit_core.train.named import load_named, named_sha256
from resfit_core.train.spaces import Spaces

Asked = Callable[[Any], Any]
"""Observation batch of one in, chunk batch of one out."""


class OpenBase(ChunkedBase):
    """A base that may show its net, for who goes on training a copy of it (`filtered_bc`).

    Attributes:
        module: (batch, obs_dim) to (batch, chunk, act_dim) in the environment's actions; None: a
            black box.
    """

    module: torch.nn.Module | None = None


class NamedBase:
    """A base policy as its file or name gives it: chunks in the environment's action space."""

    def __init__(self, name: str, spaces: Spaces) -> None:
        """Load it. Runs code of whoever made it: name only what you trust.

        Args:
            name: TorchScript file ending in .pt, or `module:callable`.
            spaces: of the environment.

        Raises:
            BaseError, TrainError: it cannot be loaded; names the fix.
        """
        self.name, self._spaces = name, spaces
        kind = kind_of(name)
        self._module: torch.nn.Module | None = None
        if kind == "act":
            raise BaseError(
                f"--base '{name}': this file belongs to a robot's contract; "
                "give TorchScript (.pt) or module:callable"
            )
        if kind == "torchscript":
            self.sha256, net, self._ask = _torchscript(Path(name))
            self._module = None if spaces.is_dict else net
        else:
            found = load_named(name, "--base")
            self.sha256, self._ask = named_sha256(name, found), found

    def plan(self, vector: np.ndarray, images: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return one chunk. Shape (chunk, act_dim), float64.

        Raises:
            BaseError: it failed, or gave another shape or a value that is not finite.
        """
        asked = _batch(self._spaces.join(np.asarray(vector, np.float32), images))
        spaces = self._spaces
        needed = f"it must give (batch, chunk, {spaces.act_dim})"
        try:
            with torch.inference_mode():
                answer = self._ask(asked)
        except Exception as error:  # user code may fail in any way
            raise BaseError(
                f"--base '{self.name}' failed on one observation ({type(error).__name__}: "
                f"{one_line(error)}); {needed} for observations of {_sizes(asked)}"
            ) from error
        if isinstance(answer, torch.Tensor):
            answer = answer.detach().cpu().double().numpy()
        try:
            chunk = np.asarray(answer, np.float64)
        except (TypeError, ValueError):
            raise BaseError(
                f"--base '{self.name}' gave a {type(answer).__name__}; {needed}"
            ) from None
        if (
            chunk.ndim != 3
            or len(chunk) != 1
            or chunk.shape[1] < 1
            or chunk.shape[2] != spaces.act_dim
        ):
            raise BaseError(f"--base '{self.name}' gave shape {chunk.shape}; {needed} for batch 1")
        if not np.isfinite(chunk).all():
            _, step, dimension = np.argwhere(~np.isfinite(chunk))[0]
            raise BaseError(
                f"--base '{self.name}' gave {chunk[0, step, dimension]} for action dimension "
                f"{dimension} at step {step} of the chunk; check its weights and normalisation"
            )
        return chunk[0]

    def chunked(
        self,
        action_space: ActionSpace,
        contract_sha256: str,
        vector: np.ndarray,
        images: Mapping[str, np.ndarray],
    ) -> OpenBase:
        """Return it as the loop runs it: open loop, chunk by chunk, normalised.

        Args:
            action_space: maps the environment's actions to [-1, 1].
            contract_sha256: hash of spaces and action range.
            vector: an observation, to learn the chunk's length from.
            images: those of that observation.
        """

        def planner(observation: np.ndarray, seen: Images | None) -> np.ndarray:
            return action_space.to_norm(self.plan(observation, seen or {}))

        chunk = len(self.plan(vector, images))
        base = OpenBase(planner, chunk, action_space, self.sha256, contract_sha256)
        base.module = self._module
        return base


def _torchscript(path: Path) -> tuple[str, torch.nn.Module, Asked]:
    try:
        data = path.read_bytes()
        net = torch.jit.load(str(path), map_location="cpu").eval()
    except OSError as error:
        raise BaseError(f"--base '{path}' cannot be read ({error.strerror})") from error
    except RuntimeError as error:
        raise BaseError(
            f"--base '{path}' is not a TorchScript file ({one_line(error, 120)}); "
            "save it with torch.jit.script(net).save(path)"
        ) from error

    def ask(observation: Any) -> Any:
        if isinstance(observation, dict):
            return net({key: torch.from_numpy(value) for key, value in observation.items()})
        return net(torch.from_numpy(observation))

    return tensorfile.sha256(data), net, ask


def _batch(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: np.array(value[None]) for key, value in observation.items()}
    return np.array(observation[None])


def _sizes(asked: Any) -> str:
    if isinstance(asked, dict):
        return ", ".join(f"{key} {value.shape}" for key, value in asked.items())
    return str(asked.shape)
