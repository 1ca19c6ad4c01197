"""The image model: a small convolutional net over all cameras of one moment, and its file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfit_core import tensorfile
from resfit_core.classifier.watch import Thresholds, WatchError
from resfit_core.contract import Contract

FORMAT = "resfit-success-1"
_WIDTHS = (16, 32, 64, 64)


class ClassifierError(ValueError):
    """A classifier that cannot be trained, loaded or used; the text names value and fix."""


class SuccessNet(nn.Module):
    """Logit of "the task is done" out of the pictures of all cameras."""

    def __init__(self, cameras: int, size: int) -> None:
        """Build with fresh weights.

        Args:
            cameras: Pictures per moment.
            size: Their edge [px].
        """
        super().__init__()
        layers: list[nn.Module] = []
        channels, edge = 3 * cameras, size
        for width in _WIDTHS:
            layers += [nn.Conv2d(channels, width, 3, 2, 1), nn.GroupNorm(4, width), nn.ReLU()]
            channels, edge = width, -(-edge // 2)
        self.see = nn.Sequential(*layers, nn.Flatten())
        self.judge = nn.Sequential(
            nn.Linear(channels * edge * edge, 64), nn.ReLU(), nn.Linear(64, 1)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits of shape (batch,).

        Args:
            pictures: 0..255, float or uint8. Shape: (batch, 3 * cameras, size, size).
        """
        return self.judge(self.see(pictures.float() / 127.5 - 1.0)).squeeze(1)


def stack(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return the pictures of all cameras as the channels of one.

    Args:
        images: Per camera uint8 (..., height, width, 3), in the contract's order.

    Returns:
        Shape: (..., height, width, 3 * cameras).
    """
    return np.concatenate(images, axis=-1)


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained net with what it needs to be used. Asked by one thread."""

    net: SuccessNet
    cameras: tuple[str, ...]
    size: int
    contract_sha256: str
    thresholds: Thresholds = dataclasses.field(default_factory=Thresholds)
    made_from: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @torch.inference_mode()
    def probabilities(self, pictures: np.ndarray) -> np.ndarray:
        """Return the probability of success of each moment. Shape: (rows,).

        Args:
            pictures: uint8 (rows, size, size, 3 * cameras), from `stack`.
        """
        found = [
            torch.sigmoid(self.net(torch.from_numpy(part.copy()).permute(0, 3, 1, 2)))
            for part in np.array_split(pictures, max(1, len(pictures) // 64))
        ]
        return torch.cat(found).numpy()

    def look(self, images: Mapping[str, np.ndarray]) -> float:
        """Return the probability of success in one moment.

        Args:
            images: Camera name to uint8 (size, size, 3).

        Raises:
            ClassifierError: A camera is missing, or its picture has another size.
        """
        missing = [name for name in self.cameras if name not in images]
        if missing:
            raise ClassifierError(f"picture of camera '{missing[0]}' is missing")
        for name in self.cameras:
            if images[name].shape != (self.size, self.size, 3):
                raise ClassifierError(
                    f"picture of camera '{name}' is {images[name].shape}; "
                    f"{(self.size, self.size, 3)} is needed"
                )
        return float(self.probabilities(stack([images[n] for n in self.cameras])[None])[0])

    def save(self, path: Path) -> None:
        """Write one safetensors file, whole or not at all."""
        header = {
            "format": FORMAT,
            "cameras": list(self.cameras),
            "size": self.size,
            "contract_sha256": self.contract_sha256,
            "thresholds": dataclasses.asdict(self.thresholds),
            "made_from": dict(self.made_from),
        }
        tensors = {name: value.numpy() for name, value in self.net.state_dict().items()}
        tensorfile.write_atomic(path, tensorfile.pack(tensors, header))


def load(path: Path, contract: Contract) -> Classifier:
    """Load a classifier, ready to look.

    Raises:
        ClassifierError: Missing, damaged, or of another format.
        ContractError: It was made for another robot, task or observation.
    """
    fix = "make one with 'resfit train-classifier'"
    try:
        tensors, header = tensorfile.unpack(path.read_bytes(), str(path))
    except OSError as error:
        raise ClassifierError(f"classifier '{path}': {error.strerror}; {fix}") from error
    except tensorfile.TensorFileError as error:
        raise ClassifierError(str(error)) from error
    if header.get("format") != FORMAT:
        raise ClassifierError(
            f"{path}: format is {header.get('format')!r}, expected {FORMAT!r}; {fix}"
        )
    contract.require(str(header.get("contract_sha256", "")), f"classifier {path}")
    try:
        net = SuccessNet(len(header["cameras"]), header["size"])
        net.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in tensors.items()})
        thresholds = Thresholds(**header["thresholds"])
    except (KeyError, TypeError, RuntimeError, WatchError) as error:
        words = " ".join(str(error).split())
        raise ClassifierError(f"{path}: does not fit its header ({words}); {fix}") from error
    net.eval().requires_grad_(False)
    return Classifier(
        net, tuple(header["cameras"]), header["size"], contract.sha256, thresholds,
        header["made_from"],
    )  # fmt: skip


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy; labels slightly soft, so that no picture makes it too sure."""
    return F.binary_cross_entropy_with_logits(logits, labels * 0.98 + 0.01)
