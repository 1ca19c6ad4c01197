"""For node tests: a DDS domain of their own, and driving nodes until something holds."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter

from resfit_ros.dds import stay_here
from resfit_ros.node import make_executor

_PORT = 24600  # + domain; a bound port marks the domain as taken, whoever else runs tests here
_DOMAINS = range(101, 0, -1)  # the ids that are safe on every platform


class Graph:
    """Nodes of one test on a context of their own."""

    def __init__(self, context: rclpy.Context, domain_id: int) -> None:
        """Take an initialised context."""
        self.context, self.domain_id = context, domain_id
        self.executor = make_executor(context)
        self._nodes: list[Any] = []
        self._error: Exception | None = None

    def add(self, factory: Callable[..., Any], parameters: Mapping[str, Any] | None = None) -> Any:
        """Create a node with these parameters, start it as `run` would, spin it from now on."""
        overrides = [Parameter(name, value=value) for name, value in (parameters or {}).items()]
        node = factory(context=self.context, parameter_overrides=overrides)
        node.wake = self._soon
        self._nodes.append(node)
        self.executor.add_node(node)
        if hasattr(node, "start"):
            node.start()
        return node

    def probe(self, name: str = "probe") -> Node:
        """Create a bare node for the test's own publishers and subscriptions."""
        return self.add(lambda **kwargs: Node(name, context=kwargs["context"]))

    def spin_until(self, holds: Callable[[], Any], timeout_s: float = 10.0) -> bool:
        """Spin until `holds()` is true; return whether it came true in time."""
        end = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > end:
                return False
            self.executor.spin_once(timeout_sec=0.02)
            if self._error is not None:
                raise self._error
        return True

    def _soon(self, callback: Callable[[], Any]) -> None:
        def call() -> None:
            # An exception in a task would crash the events executor.
            try:
                callback()
            except Exception as error:
                self._error = error

        self.executor.create_task(call)

    def connected(self, node: Node, *topics: str, timeout_s: float = 10.0) -> bool:
        """Spin until every topic has a publisher and a subscription; volatile messages need it."""
        return self.spin_until(
            lambda: all(
                node.count_publishers(t) and node.count_subscribers(t)
                for t in (node.resolve_topic_name(t) for t in topics)
            ),
            timeout_s,
        )

    def stop(self, node: Any) -> None:
        """Stop and destroy one node."""
        self._nodes.remove(node)
        node.wake = lambda _: None
        if hasattr(node, "stop"):
            node.stop()
        self.executor.remove_node(node)
        node.destroy_node()

    def close(self) -> None:
        """Stop all nodes, newest first."""
        for node in reversed(list(self._nodes)):
            self.stop(node)
        self.executor.shutdown()


@contextlib.contextmanager
def domain() -> Iterator[int]:
    """Reserve a DDS domain that no other test on this machine has."""
    for number in _DOMAINS:
        lock = socket.socket()
        try:
            lock.bind(("127.0.0.1", _PORT + number))
        except OSError:
            lock.close()
            continue
        with contextlib.closing(lock):
            yield number
        return
    raise RuntimeError("all 101 DDS domains are taken by other tests; wait for them")


@contextlib.contextmanager
def graph() -> Iterator[Graph]:
    """Give a test its own domain, context and executor."""
    stay_here()
    with domain() as number:
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=number)
        made = Graph(context, number)
        try:
            yield made
        finally:
            made.close()
            context.try_shutdown()
