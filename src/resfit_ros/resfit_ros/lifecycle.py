"""One base class for every node that moves the robot."""

from __future__ import annotations

import traceback
from typing import Any

import rclpy.lifecycle
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from resfit_ros.node import Guarded
from resfit_ros.parameters import declare


class LifecycleNode(Guarded, rclpy.lifecycle.Node):
    """A managed node. Subclasses fill `_setup/_activate/_deactivate/_secure/_teardown`.

    - Configure fails loudly: the error of `_setup` is logged and, under `autostart`, ends the
      process. Half-built state is torn down again.
    - Deactivate refuses new work first (`self.active` is False), then `_deactivate` stops what
      runs and waits a bounded time, and only then `_secure` sends the safe command, the last thing
      the node says.
    - Cleanup, shutdown and error share `_teardown`, which must tolerate partial state.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        """Create the node unconfigured; `start` brings it up under `autostart`."""
        super().__init__(name, **kwargs)
        self.active = False
        self._configured = False
        self._error: BaseException | None = None
        self._autostart = declare(
            self, "autostart", True, "configure and activate at once, without a manager"
        )

    def start(self) -> None:
        """Bring the node up if `autostart` is set.

        Raises:
            Exception: What `_setup` or `_activate` raised.
        """
        if not self._autostart:
            return
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                raise self._error or RuntimeError("the transition failed without a reason")

    def stop(self) -> None:
        """Bring the node down from whatever state it is in, the safe command last."""
        try:
            if self.active:
                self._bring_down()
        finally:
            self._clear()

    def _setup(self) -> None:
        """Load and check everything; open publishers and subscriptions. Raise what is wrong."""

    def _activate(self) -> None:
        """Start to act. `self.active` becomes True afterwards."""

    def _deactivate(self) -> None:
        """Stop what runs and wait for it, a bounded time. `self.active` is False already."""

    def _secure(self) -> None:
        """Send the safe command: the last thing said before the node is inactive."""

    def _teardown(self) -> None:
        """Release everything; called with partial state too."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `_setup`; on an error tear down and stay unconfigured."""
        try:
            self._setup()
        except Exception as error:
            self._report("configure", error)
            self._teardown()
            return TransitionCallbackReturn.FAILURE
        self._configured = True
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `_activate`."""
        try:
            self._activate()
        except Exception as error:
            self._report("activate", error)
            return TransitionCallbackReturn.FAILURE
        self.active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, then send the safe command, last."""
        try:
            self._bring_down()
        except Exception as error:
            self._report("deactivate", error)
            return TransitionCallbackReturn.ERROR
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything."""
        self._clear()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and secure if active, then release everything."""
        self.stop()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything; the node is unconfigured again and may be configured anew."""
        self.active = False
        self._clear()
        return TransitionCallbackReturn.SUCCESS

    def _bring_down(self) -> None:
        self.active = False
        try:
            self._deactivate()
        finally:
            # Whatever went wrong before, the robot is secured.
            self._secure()

    def _clear(self) -> None:
        if self._configured:
            self._configured = False
            self._teardown()

    def _report(self, what: str, error: BaseException) -> None:
        self._error = error
        words = " ".join(str(error).split())
        self.get_logger().error(f"{what} failed: {type(error).__name__}: {words}")
        self.get_logger().debug("".join(traceback.format_exception(error)))
