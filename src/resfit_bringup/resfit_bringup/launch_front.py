"""`graph.py` as `ros2 launch` actions; the launch files are one line of this each."""

from __future__ import annotations

from pathlib import Path

import launch_ros.actions
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
    TimerAction,
)
from launch.events.process import ProcessExited
from launch.substitutions import EnvironmentVariable, LaunchConfiguration

from launch import LaunchContext, LaunchDescription, SomeEntitiesType
from resfit_bringup import checks, run_dir, security, shared_memory
from resfit_bringup.graph import Node, Plan, job_named, resolve
from resfit_bringup.rules import Limits, Outcome, Rules
from resfit_bringup.run import extra_environment


def describe(job_name: str) -> LaunchDescription:
    """Return the launch description of a job: its arguments, then its nodes."""
    job = job_named(job_name)
    declared = [
        DeclareLaunchArgument(a.name, default_value=a.as_text(), description=a.help)
        for a in job.arguments
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_start, args=[job_name])])


def _start(context: LaunchContext, job_name: str) -> list:
    """Check everything, make the run folder, start the nodes; a UsageError ends the launch."""
    arguments = job_named(job_name).arguments
    said = {a.name: LaunchConfiguration(a.name).perform(context) for a in arguments}
    # What equals its default was not given: a continued run keeps what it had.
    given = {a.name: said[a.name] for a in arguments if said[a.name] != a.as_text()}
    plan = resolve(job_name, given)
    folder = run_dir.open_run(plan, checks.check(plan))
    shared_memory.clean()
    rules = Rules(Limits(), plan.finisher)
    environment = [
        SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=value))
        for name, value in extra_environment(str(folder)).items()
    ]
    return [
        LogInfo(msg=f"{job_name} in {folder}"),
        *environment,
        *(node_action(plan, node, folder, rules) for node in plan.nodes),
    ]


def node_action(plan: Plan, node: Node, folder: Path, rules: Rules) -> launch_ros.actions.Node:
    """Return the action that starts one node and obeys the rules when it exits."""

    def exited(event: ProcessExited, context: LaunchContext) -> SomeEntitiesType | None:
        if context.is_shutdown:
            return None
        follows = rules.exited(node.name, node.required, event.returncode)
        if isinstance(follows, Outcome):
            end = Shutdown(reason=follows.reason)
            if follows.code == 0 and plan.values.get("report"):
                command = ["resfit", "report", str(folder)]
                command += [] if plan.values.get("video") else ["--no-video"]
                end = ExecuteProcess(cmd=command, output="screen", on_exit=[end])
            return [LogInfo(msg=follows.reason), end]
        again = node_action(plan, node, folder, rules)
        return [LogInfo(msg=follows.reason), TimerAction(period=follows.wait_s, actions=[again])]

    limits = Limits()
    return launch_ros.actions.Node(
        package=node.package,
        executable=node.executable,
        name=node.name,
        parameters=[str(folder / "config" / "nodes" / f"{node.name}.yaml")],
        ros_arguments=["--log-level", plan.log_level, *security.enclave_arguments(node.name)],
        output="screen",
        emulate_tty=True,
        # launch's own defaults take ten seconds after a Ctrl-C.
        sigterm_timeout=str(limits.terminate_after_s),
        sigkill_timeout=str(limits.kill_after_s - limits.terminate_after_s),
        on_exit=exited,
    )
