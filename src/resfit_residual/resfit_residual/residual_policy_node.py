"""Node `residual_policy`: adds the learned residual to the base's action and proposes the sum."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from trajectory_msgs.msg import JointTrajectory

from resfit_core.algorithms.config import TrainConfig
from resfit_core.base.checkpoint import load_base
from resfit_core.build import build_policy
from resfit_core.contract import ContractError
from resfit_core.control.residual_tick import Proposal, ResidualTick, StepKeeper, Weights
from resfit_core.residual import ResidualPolicy
from resfit_core.weights import newest_weights
from resfit_interfaces import msg as ours
from resfit_interfaces.srv import GetSteps
from resfit_residual.blind import Blind
from resfit_residual.policy_ticks import Kin, Tick, tick_from_msg
from resfit_ros import conversions, qos
from resfit_ros.contract import contract_from_parameters, declare_contract
from resfit_ros.lifecycle import LifecycleNode
from resfit_ros.loop_stats import LoopWatch
from resfit_ros.node import REFUSED, run_process
from resfit_ros.parameters import ParameterError, declare

_SAY_EVERY_S = 5.0
_TEN = qos.reliable(10)


class ResidualPolicyNode(LifecycleNode):
    """Answers each `policy_step` with a `policy_command` and a `step`.

    When it acts, and with which weights, decides `ResidualTick`. Deactivated, it proposes nothing
    and the driver's watchdog holds the robot.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Declare the parameters; everything is loaded when configured."""
        super().__init__("residual_policy", **kwargs)
        declare_contract(self)
        self._base = declare(self, "base", "", "base policy; its action ranges are needed")
        self._train_config = declare(
            self, "train_config", "", "learning settings YAML; empty: defaults"
        )
        self._clock_kind = declare(
            self, "clock", "lockstep", "lockstep: the twin waits for every answer; realtime: not",
            choices=("lockstep", "realtime"),
        )  # fmt: skip
        self._seed = declare(self, "seed", 0, "seed of the run", range=(0, None))
        self._run_dir = declare(self, "run_dir", "", "folder of the run and its weights; or empty")
        self._seal = declare(self, "seal", "", "folder of a blind evaluation's seal; empty: none")
        self._stop_early = declare(
            self, "stop_early", False, "blind: end the run when enough rounds were run"
        )

    def _setup(self) -> None:
        # More threads than one only cost time at a batch of one.
        torch.set_num_threads(1)
        contract = contract_from_parameters(self)
        if not self._base:
            raise ParameterError("parameter 'base' is empty; give the base policy's file")
        config = TrainConfig.from_yaml(self._train_config) if self._train_config else TrainConfig()
        config = config.replace(seed=self._seed)
        base = load_base(self._base, contract)
        self._contract, self._space = contract, base.action_space
        self._kin = Kin(contract.sha256, base.base_sha256)
        sees_last = config.observe_last_action

        def make_policy() -> ResidualPolicy:
            return build_policy(config, contract, base)

        self._blind, self._base_action = None, conversions.base_action_from_msg
        if self._seal:
            folders = Path(self._seal), Path(self._run_dir)
            self._blind = Blind(self, *folders, make_policy, sees_last, self._stop_early)
            self._tick: ResidualTick = self._blind.tick
            self._base_action = self._blind.base_action
        else:
            self._tick = ResidualTick(make_policy(), self._refused, sees_last)
            self._load_from_disk()
        self._kept: StepKeeper[ours.Step] = StepKeeper()
        self._said: tuple[Proposal | None, Any, Any] = (None, None, None)
        self._began: tuple[int, int] | None = None  # taken [ns, steady], on its way before [ns]
        self._loop = LoopWatch(
            self, contract.period_s, ("transport", "residual"), self._clock_kind
        )
        self._commands_out = self.create_publisher(
            JointTrajectory, "policy_command", qos.reliable(10)
        )
        self._steps_out = self.create_publisher(ours.Step, "step", qos.reliable(400))
        self._subscriptions_made: list[Any] = []
        self._hear(ours.EpisodeState, "episode_state", self._on_state, qos.LATCHED_IN)
        self._hear(ours.PolicyStep, "policy_step", self._on_step)
        if sees_last:
            self._hear(ours.ExecutedCommand, "executed_command", self._on_executed)
        if self._blind is None:  # the policies of a blind evaluation are fixed
            self._hear(ours.PolicyWeights, "policy_weights", self._on_weights, qos.LATCHED_IN)
        self._service = self.create_service(GetSteps, "residual_policy/get_steps", self._get_steps)

    def _hear(self, kind: Any, topic: str, callback: Any, profile: Any = _TEN) -> None:
        made = self.create_subscription(kind, topic, callback, profile)
        self._subscriptions_made.append(made)

    def _teardown(self) -> None:
        for subscription in self.__dict__.pop("_subscriptions_made", []):
            self.destroy_subscription(subscription)
        for name in ("_commands_out", "_steps_out"):
            publisher = self.__dict__.pop(name, None)
            if publisher is not None:
                self.destroy_publisher(publisher)
        for name in ("_loop", "_blind"):
            part = self.__dict__.pop(name, None)
            if part is not None:
                part.close()
        service = self.__dict__.pop("_service", None)
        if service is not None:
            self.destroy_service(service)

    def _load_from_disk(self) -> None:
        """Take the newest weights of the run: after a restart, or where no learner runs."""
        found = newest_weights(Path(self._run_dir)) if self._run_dir else None
        if found is not None:
            version, data = found
            self._tick.on_weights(Weights(data, None, version))
            self.get_logger().info(f"weights version {version} of {self._run_dir}")

    def _on_state(self, msg: ours.EpisodeState) -> None:
        state = conversions.episode_state_from_msg(msg)
        if self._blind is not None:
            self._blind.hear(state)
        self._answer(self._tick.on_state(state))

    def _on_executed(self, msg: ours.ExecutedCommand) -> None:
        if self.active and len(msg.action_norm):
            stamp_ns = conversions.stamp_from_msg(msg.header.stamp)
            self._answer(self._tick.on_executed(stamp_ns, np.array(msg.action_norm, np.float32)))

    def _on_weights(self, msg: ours.PolicyWeights) -> None:
        stranger = self._kin.why_not_weights(msg)
        if stranger:
            self._refused(stranger)
            return
        self._answer(self._tick.on_weights(Weights(bytes(msg.data), msg.sha256, msg.version)))

    def _on_step(self, msg: ours.PolicyStep) -> None:
        if not self.active:
            return
        sent_ns = conversions.stamp_from_msg(msg.sent)
        self._began = (time.monotonic_ns(), time.time_ns() - sent_ns)
        stranger = self._kin.why_not_step(msg)
        if stranger:
            self.fail(ContractError(stranger), REFUSED)
            return
        try:
            tick = tick_from_msg(msg, self._contract.images, self._base_action)
        except conversions.ConversionError as error:
            # No proposal: the driver holds.
            self.get_logger().error(
                f"policy_step dropped: {error}", throttle_duration_sec=_SAY_EVERY_S
            )
            return
        self._answer(self._tick.on_tick(tick))
        self._began = None  # what waits for weights or RUNNING is no tick of the loop
        if self._tick.waits_for_version:
            self.get_logger().info(
                f"waits for weights version {self._tick.waits_for_version}",
                throttle_duration_sec=_SAY_EVERY_S,
            )

    def _answer(self, proposal: Proposal | None) -> None:
        if proposal is None or not self.active:
            return
        new = proposal is not self._said[0]
        if new:
            tick: Tick = proposal.tick
            command = None
            if len(proposal.action):
                command = conversions.trajectory_to_msg(
                    tick.stamp_ns, self._contract.joint_names, self._space.to_rad(proposal.action)
                )
            step = conversions.step_of_tick(
                tick.message, proposal.action, proposal.weights_version, proposal.explored
            )
            self._said = (proposal, command, step)
            self._kept.keep(step.episode, step.step, step)
        _, command, step = self._said
        # The robot waits for the command, nobody for the step.
        if command is not None:
            self._commands_out.publish(command)
            if new and self._began is not None:
                now_ns, (taken_ns, transport_ns) = time.monotonic_ns(), self._began
                self._loop.tick(now_ns, step.episode, (transport_ns, now_ns - taken_ns))
        self._steps_out.publish(step)

    def _refused(self, reason: str) -> None:
        self.get_logger().error(f"refused, the old weights stay: {reason}")

    def _get_steps(self, request: GetSteps.Request, response: GetSteps.Response) -> Any:
        response.found = self._kept.find(request.episode, list(request.steps))
        return response


def main() -> NoReturn:
    """Run the node."""
    run_process(ResidualPolicyNode, urgent=True, rank=2)


if __name__ == "__main__":
    main()
