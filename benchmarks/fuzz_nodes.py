"""Random messages for every node but the driver: what each node hears is asked of the node itself.

Part of `make fuzz`. Each node runs alone on a domain of its own, with random messages of the
right type on each of its topics: random lengths, values, stamps and orders, some nearly sound. A
crash is an exception in a callback that is no refusal in words. What a node refuses by design (a
tick of another contract, say) is counted as `refused`, and the fuzz goes on.
"""

from __future__ import annotations

import array
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fault_processes import write_pictures
from rosidl_parser import definition as idl

from resfit_base.base_policy_node import BasePolicyNode
from resfit_core.classifier.net import Classifier, SuccessNet
from resfit_core.contract import load_contract
from resfit_residual.learner_node import LearnerNode
from resfit_residual.recorder_node import RecorderNode
from resfit_residual.residual_policy_node import ResidualPolicyNode
from resfit_reward.episode_manager_node import EpisodeManagerNode
from resfit_reward.panel_node import PanelNode
from resfit_reward.reward_button_node import RewardButtonNode
from resfit_reward.success_classifier_node import SuccessClassifierNode
from resfit_reward.teleop_node import TeleopNode
from resfit_ros.node import REFUSED
from resfit_ros.testing import graph
from resfit_sim.expert_teleop_node import ExpertTeleopNode
from resfit_sim.twin_node import TwinNode
from resfit_vega_driver.zed_camera_node import ZedCameraNode

_ODD = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e308, -1e308, 1e30, 1.0, -1.0)
_DEEP = 4
_FLOAT32_MAX = 3.4e38
_BITS = {f"{sign}int{n}": (sign, n) for sign in ("", "u") for n in (8, 16, 32, 64)}


class Random:
    """Messages of any type, repeatable by seed."""

    def __init__(self, seed: int, words: list[str], lengths: list[int]) -> None:
        """Take words and lengths that make a message nearly sound."""
        self._rng = np.random.default_rng(seed)
        self._words = [*words, "", "x" * 300, "\u00fc", "rgb8", "bgra8", "base"]
        self._lengths = [*lengths, 0, 1, 3, 77]

    def message(self, kind: Any, depth: int = 0) -> Any:
        """Return a message of this type."""
        msg, rng = kind(), self._rng
        for name, slot in zip(msg.get_fields_and_field_types(), kind.SLOT_TYPES, strict=True):
            if depth == 0 and name != "header" and rng.random() < 0.1:
                continue  # as nobody set it
            setattr(msg, name, self._value(slot, type(getattr(msg, name)), depth))
        if kind.__name__ == "Time" and rng.random() < 0.6:
            now = time.time_ns() + int(rng.normal(0, 2e8))
            msg.sec, msg.nanosec = divmod(now, 10**9)
        return msg

    def _value(self, slot: Any, made: type, depth: int) -> Any:
        rng = self._rng
        if isinstance(slot, idl.AbstractNestedType):
            count = int(rng.choice(self._lengths))
            if isinstance(slot, idl.Array):
                count = slot.size
            inner = slot.value_type
            if isinstance(inner, idl.NamespacedType):
                count = min(count, 3 if depth < _DEEP else 0)
            values = [self._value(inner, object, depth + 1) for _ in range(count)]
            if made is array.array:
                return array.array(_code(inner), values)
            return np.array(values) if made is np.ndarray else values
        if isinstance(slot, idl.NamespacedType):
            return self.message(_class_of(slot), depth + 1)
        if isinstance(slot, idl.AbstractString):
            return str(rng.choice(self._words))
        return self._number(slot.typename)

    def _number(self, name: str) -> Any:
        rng = self._rng
        if name == "boolean":
            return bool(rng.random() < 0.5)
        if name in ("float", "double"):
            value = float(rng.choice(_ODD)) if rng.random() < 0.1 else float(rng.normal())
            over = name == "float" and math.isfinite(value) and abs(value) > _FLOAT32_MAX
            return 1e30 if over else value
        if name == "octet":
            return bytes([int(rng.integers(0, 256))])
        sign, bits = _BITS[name]
        low, high = (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        kind = rng.random()
        if kind < 0.8:
            return min(max(int(rng.integers(-1, 13)), low), high)
        if kind < 0.9:
            return (low, high)[int(rng.integers(2))]
        return min(high, int(rng.integers(2**31)))


def _code(slot: Any) -> str:
    codes = {"float": "f", "double": "d", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H",
             "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q"}  # fmt: skip
    return codes[slot.typename]


def _class_of(slot: Any) -> type:
    module = __import__(".".join(slot.namespaces), fromlist=[slot.name])
    return getattr(module, slot.name)


def nodes(root: Path, folder: Path) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Return every node with its parameters; they write into `folder`."""
    config = root / "config"
    files = {
        "robot_file": str(config / "robot/vega_1.yaml"),
        "task_file": str(config / "task/woolly_ball_pnp.yaml"),
    }
    base = {"base": "fault_cameras:nodding_base"}
    run = {"run_dir": str(folder / "fuzz")}
    real = {"clock": "realtime"}
    pixels = {**files, "observation": "pixels"}
    jog = {"teleop_mapping": str(config / "operator/teleop.yaml"), "keyboard": False}
    pixel_training = {"train_config": str(config / "train/pixels.yaml")}
    write_pictures(folder / "pictures")
    camera = {"source": "file", "file": str(folder / "pictures")}
    classifier = {"classifier": str(folder / "success.safetensors")}
    contract = load_contract(*pixels.values())
    net = SuccessNet(len(contract.images), contract.image_size)
    Classifier(net, contract.images, contract.image_size, contract.sha256).save(
        Path(classifier["classifier"])
    )
    return {
        "base_policy": (BasePolicyNode, {**pixels, **real, **base}),
        "residual_policy": (ResidualPolicyNode, {**pixels, **real, **base, **pixel_training}),
        "episode_manager": (EpisodeManagerNode, {**files, **real, **run, "episodes": 100_000}),
        "recorder": (RecorderNode, {**files, **real, **run}),
        "learner": (LearnerNode, {**files, **base, **run}),
        "reward_button": (RewardButtonNode, {"keyboard": False, **real}),
        "teleop": (TeleopNode, {**files, **real, **jog}),
        "expert_teleop": (ExpertTeleopNode, {**files, **real}),
        "success_classifier": (SuccessClassifierNode, {**pixels, **classifier}),
        "panel": (PanelNode, {**pixels, **real, "panel_port": 0}),
        "zed_camera": (ZedCameraNode, {**pixels, **camera}),
        "twin_node": (TwinNode, {**files, **real}),
    }


def fuzz(root: Path, name: str, seconds: float, seed: int, folder: Path) -> dict[str, int]:
    """Fuzz one node; return messages, crashes, refusals."""
    factory, parameters = nodes(root, folder)[name]
    found = {"messages": 0, "crashes": 0, "refused": 0}
    with graph() as made:
        node = made.add(factory, parameters)
        node.get_logger().set_level(50)  # nonsense on purpose
        node.on_finish = lambda code: _note(node, code, found)
        observation = parameters.get("observation", "")
        files = (parameters.get(k) for k in ("robot_file", "task_file"))
        words, lengths = ["fuzz"], [29]
        if "robot_file" in parameters:
            contract = load_contract(*files, observation) if observation else load_contract(*files)
            lengths = [contract.action_dim, contract.obs_dim]
            words = ["fuzz", contract.sha256, "0" * 64, *contract.joint_names[:3]]
        messages = Random(seed, words, lengths)
        probe = made.probe("fuzz")
        heard = [s for s in node.subscriptions if not s.topic_name.endswith("parameter_events")]
        outs = [
            (probe.create_publisher(s.msg_type, s.topic_name, s.qos_profile), s.msg_type)
            for s in heard
        ]
        made.connected(probe, *(s.topic_name for s in heard))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for publisher, kind in outs:
                publisher.publish(messages.message(kind))
                found["messages"] += 1
            until = time.monotonic() + 0.002
            try:
                made.spin_until(lambda until=until: time.monotonic() > until, timeout_s=1.0)
            except Exception as error:
                made._error = None
                _complain(name, error, found)
    return found


def _note(node: Any, code: int, found: dict[str, int]) -> None:
    error, node.failure = node.failure, None
    if code == REFUSED and isinstance(error, ValueError):
        found["refused"] += 1
    elif error is not None:
        _complain(node.get_name(), error, found)


def _complain(name: str, error: BaseException, found: dict[str, int]) -> None:
    found["crashes"] += 1
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else "?"
    print(f"  {name}: {type(error).__name__}: {error} ({place})", file=sys.stderr, flush=True)
