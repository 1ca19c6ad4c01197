"""Errors of the twin. Each names the value, what was allowed and the fix."""


class SimError(Exception):
    """Base of all errors of resfit_sim."""


class UnknownTask(SimError, ValueError):
    """A task name that is not in the registry."""


class InvalidTarget(SimError, ValueError):
    """Joint targets the twin refuses: wrong length, NaN or infinity."""


class InvalidJointNames(SimError, ValueError):
    """Joint names that are not a permutation of the robot's 29."""


class UnknownCamera(SimError, ValueError):
    """A camera the model does not have, or an image larger than its buffer."""


class RobotFilesMissing(SimError, RuntimeError):
    """The robot's description package is missing or lacks a file."""


class RenderingUnavailable(SimError, RuntimeError):
    """No OpenGL library can be used; everything but images still works."""


class PlanFailed(SimError, RuntimeError):
    """Inverse kinematics found no arm posture for a planned hand pose."""
