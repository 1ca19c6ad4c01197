"""Run one node as a process: start, spin, stop on signals; a failure is one line and a code."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import rclpy
import rclpy.node
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from resfit_ros import priority
from resfit_ros.parameters import refuse_unknown

FAILED = 1
REFUSED = 2  # the node refused its input: starting it again would not help
INTERRUPTED = 130  # shell convention: 128 + SIGINT
_SAME_SIGNAL_S = 1.0
_SAY_EVERY_S = 5.0


class Guarded:
    """Mixin: an exception in any callback ends the process with its reason in one line.

    Outside of :func:`run` (in tests) exceptions pass through to the executor's caller.
    """

    on_finish: Callable[[int], None] | None = None  # set by `run`
    failure: BaseException | None = None
    wake: Callable[[Callable[[], Any]], None] | None = None  # set by `run`

    def create_subscription(
        self, msg_type: Any, topic: str, callback: Any, *a: Any, **kw: Any
    ) -> Any:
        """Create a subscription whose callback is guarded."""
        return super().create_subscription(msg_type, topic, self.guard(callback), *a, **kw)

    def create_timer(self, timer_period_sec: float, callback: Any, *a: Any, **kw: Any) -> Any:
        """Create a timer whose callback is guarded."""
        return super().create_timer(timer_period_sec, self.guard(callback), *a, **kw)

    def create_service(
        self, srv_type: Any, srv_name: str, callback: Any, *a: Any, **kw: Any
    ) -> Any:
        """Create a service whose callback is guarded."""
        return super().create_service(srv_type, srv_name, self.guard(callback), *a, **kw)

    def guard(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Return `callback` such that an exception in it ends the process; use it for futures."""

        @functools.wraps(callback)
        def guarded(*args: Any) -> Any:
            try:
                return callback(*args)
            except Exception as error:
                if self.on_finish is None:
                    raise
                self.fail(error)
                # A service must still answer; the process ends right after.
                return args[1] if len(args) > 1 else None

        return guarded

    def pass_over(self, topic: str, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return `callback` such that a ValueError in it passes the message over, in words.

        For nodes that only watch: nonsense of another node must not take them from the operator.
        """

        def take(msg: Any) -> None:
            try:
                callback(msg)
            except ValueError as error:
                self.get_logger().warning(
                    f"{topic}: message passed over: {error}", throttle_duration_sec=_SAY_EVERY_S
                )

        return take

    def fail(self, error: BaseException, code: int = FAILED) -> None:
        """End the process with this exit code and reason. The first reason stays.

        Args:
            error: Its text is the line the user reads.
            code: FAILED: the front end starts the node again; REFUSED: the run ends.
        """
        if self.on_finish is None:
            raise error
        if self.failure is None:
            self.failure = error
        self.on_finish(code)

    def finish(self, code: int = 0) -> None:
        """End the process with this exit code; `stop` runs first. Outside of `run`: nothing."""
        if self.on_finish is not None:
            self.on_finish(code)

    def call_soon(self, callback: Callable[[], Any]) -> None:
        """Run `callback` on the executor's thread; may be called from any thread.

        Raises:
            RuntimeError: The node runs outside of `run` and nobody set `wake`.
        """
        if self.wake is None:
            raise RuntimeError(f"{self.get_name()}: no executor to hand a call to; use run()")
        self.wake(self.guard(callback))


class Node(Guarded, rclpy.node.Node):
    """A node whose callbacks are guarded. `stop`, where a subclass has it, runs before the end."""


def run(
    factory: Callable[[], rclpy.node.Node], args: Sequence[str] | None = None, *, rank: int = 0
) -> int:
    """Run the node that `factory` makes until it finishes, fails or a signal comes.

    Args:
        factory: Makes the node; exceptions in it are reported in one line.
        args: Command line; None: the process's own.
        rank: See `run_process`.

    Returns:
        Exit code: 0 after SIGINT, SIGTERM or `finish()`; 2 where the input was refused (our typed
        errors, all of them ValueErrors, while starting; `fail(error, REFUSED)` later); 1 after any
        other failure. A signal while the node is still being made leaves at once with 0: nothing
        has been started. A second one, later than a doubled Ctrl-C, leaves at once with 130.
    """
    node: Any = None
    name = getattr(factory, "__name__", "node")
    code = FAILED
    try:
        with _signals() as on_signal:
            # Our own handlers: rclpy's would close the context before a node could send its last,
            # safe command.
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
            node = factory()
            name = node.get_name()
            refuse_unknown(node)
            code = _spin(node, on_signal, rank)
        if getattr(node, "failure", None) is not None:
            _complain(name, node.failure)
    except Exception as error:
        code = REFUSED if isinstance(error, ValueError) else FAILED
        _complain(name, error)
    finally:
        with contextlib.suppress(Exception):
            if node is not None:
                node.destroy_node()
        rclpy.try_shutdown()
    return code


def run_process(
    factory: Callable[[], rclpy.node.Node], *, urgent: bool = False, rank: int = 0
) -> NoReturn:
    """Run the node as this process and leave with its exit code.

    Nodes that the robot waits for are urgent, and so is the twin in its place: they ask for a
    higher priority before any thread of theirs exists, and where the robot does not wait
    (`clock:=realtime`) for a place before all ordinary processes once they are up. Where that is
    not permitted they go without, and say so.

    Args:
        factory: Makes the node.
        urgent: The robot waits for it.
        rank: Its place among those (`priority.go_first`); 0: none.

    What had to be stopped and written is done by then. Tearing the interpreter down with torch in
    it takes seconds on a loaded machine, longer than one Ctrl-C may take for the whole graph.
    """
    if urgent:
        priority.ask_early()
    code = run(factory, rank=rank)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def make_executor(context: rclpy.Context | None = None) -> Executor:
    """Return the fastest executor this rclpy has: the events executor, from Jazzy on."""
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor(context=context)
    return EventsExecutor(context=context)


def keep_what_is_loaded() -> None:
    """Spare the loop the garbage collector's walk over all modules: a tenth of a second."""
    gc.collect()
    gc.freeze()


def _spin(node: Any, on_signal: Callable[[Callable[[], None]], None], rank: int) -> int:
    executor = make_executor()
    executor.add_node(node)
    done = Future(executor=executor)

    def finish(code: int) -> None:
        if not done.done():
            done.set_result(code)

    def wake(callback: Callable[[], Any]) -> None:
        # Only guarded callbacks come here: an exception in a task crashes the events executor.
        executor.create_task(callback)

    node.on_finish, node.wake = finish, wake
    try:
        on_signal(lambda: wake(lambda: finish(0)))
        start = getattr(node, "start", None)
        if start is not None:
            start()
        keep_what_is_loaded()
        lockstep = node.has_parameter("clock") and node.get_parameter("clock").value == "lockstep"
        if not lockstep and not priority.go_first(rank) and rank:
            node.get_logger().warning(priority.NOT_PERMITTED)
        while not done.done():
            # Without a time-out Jazzy's events executor burns a core and runs nothing.
            executor.spin_until_future_complete(done, 3600.0)
    finally:
        # Threads of the node may still hand calls over: nobody is there any more to make them.
        node.wake = _nobody
        stop = getattr(node, "stop", None)
        if stop is not None:
            stop()
        executor.remove_node(node)
        executor.shutdown()
    return int(done.result()) if done.done() else FAILED


def _nobody(callback: Callable[[], Any]) -> None:
    """Drop a call that comes while the node leaves."""


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Watch for SIGINT and SIGTERM on a thread; yield where to say what the first one does.

    The main thread sits in the executor's C++ code, where a Python handler would not run; the
    wake-up descriptor is written by the interpreter's C handler at once. Until something is said,
    the first signal ends the process.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    actions: list[Callable[[], None]] = [lambda: os._exit(0)]

    def watch() -> None:
        if not reader.recv(1):
            return
        first_s = time.monotonic()
        actions[-1]()
        while reader.recv(1):
            # A terminal and a front end both pass one Ctrl-C on; that is not a second wish.
            if time.monotonic() - first_s > _SAME_SIGNAL_S:
                os._exit(INTERRUPTED)

    previous = {s: signal.signal(s, lambda *_: None) for s in (signal.SIGINT, signal.SIGTERM)}
    old_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, name="signals", daemon=True)
    thread.start()
    try:
        yield actions.append
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handler in previous.items():
            signal.signal(number, handler)
        writer.close()  # ends the thread: its next read gives nothing
        thread.join(timeout=1.0)
        reader.close()


def _complain(name: str, error: BaseException) -> None:
    if os.environ.get("RESFIT_DEBUG") == "1":
        traceback.print_exception(error)
    words = " ".join(str(error).split()) or "no reason given"
    kind = type(error).__name__
    print(f"[{name}] {kind}: {words}", file=sys.stderr, flush=True)
