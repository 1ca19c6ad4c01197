"""Somebody who wants to know who acts: hears every topic, reads every page and every line.

`Onlooker` records a blind evaluation from outside; `signs` asks of each thing that was seen
whether it tells the two policies apart.
"""

from __future__ import annotations

import importlib
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message

from resfit_interfaces.msg import EpisodeState

POLL_S = 0.25
URL = re.compile(r"panel: (http://\S+)")
LINE_TIME = re.compile(r"\[(\d{10}\.\d{9})\]")
TOKEN = re.compile(r"[\w.:%-]+")


class Onlooker:
    """Listens on a thread of its own until it is closed."""

    def __init__(self, domain_id, folder):
        self.folder = folder
        self.heard = []  # (wall time [s], topic, type, bytes), as they came
        self.pages = []  # (wall time [s], text)
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        self._node = Node("onlooker", context=self._context)
        self._executor = rclpy.executors.SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._subscribed = {}
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=t) for t in (self._listen, self._browse)]
        for thread in self._threads:
            thread.start()

    def close(self):
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    @property
    def topics(self):
        return sorted(self._subscribed)

    def _listen(self):
        looked = 0.0
        while not self._closing.is_set():
            if time.monotonic() - looked > POLL_S:
                looked = time.monotonic()
                for topic, types in self._node.get_topic_names_and_types():
                    if topic not in self._subscribed:
                        self._subscribe(topic, types[0])
            self._executor.spin_once(timeout_sec=0.05)

    def _subscribe(self, topic, type_name):
        offers = self._node.get_publishers_info_by_topic(topic)
        if not offers:
            return
        reliable = all(o.qos_profile.reliability == ReliabilityPolicy.RELIABLE for o in offers)
        latched = all(o.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for o in offers)
        profile = QoSProfile(
            depth=2000,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        package, _, name = type_name.split("/")
        kind = getattr(importlib.import_module(f"{package}.msg"), name)

        def take(data):
            self.heard.append((time.time(), topic, kind, data))

        self._subscribed[topic] = self._node.create_subscription(
            kind, topic, take, profile, raw=True
        )

    def _browse(self):
        log, url = self.folder / "logs" / "panel.log", ""
        while not self._closing.wait(POLL_S):
            if not url and log.is_file() and (found := URL.search(log.read_text())):
                url = found[1]
            if url:
                try:
                    with urllib.request.urlopen(url, timeout=5) as answer:
                        self.pages.append((time.time(), answer.read().decode()))
                except (OSError, urllib.error.URLError):
                    continue  # the panel ends with the run

    # --- what was seen, by episode ---------------------------------------------------------------

    def seen(self, console):
        """Return (round, label) -> {what: value} of everything that was seen.

        Args:
            console: (wall time [s], line) of what the front end said.
        """
        begins = self._begins()
        values = defaultdict(lambda: defaultdict(list))
        known = set()
        for at, topic, kind, data in self.heard:
            place = _place(begins, at)
            if place is None or (place, topic, data) in known:  # lock-step says things again
                continue
            known.add((place, topic, data))
            for path, value in fields(deserialize_message(data, kind)):
                values[place][topic + path].append(value)
        features = {place: {} for _, place in begins}
        for place, paths in values.items():
            for path, found in paths.items():
                features[place] |= summary(path, found)
        words = [("page", at, text) for at, text in self.pages]
        words += [("console", at, line) for at, line in console]
        for file in sorted((self.folder / "logs").rglob("*.log")):
            for line in file.read_text(errors="replace").splitlines():
                if found := LINE_TIME.search(line):
                    words.append((file.name.split("_")[0], float(found[1]), line))
        for source, at, text in words:
            place = _place(begins, at)
            if place is not None:
                features[place] |= {f"{source}: {word}": True for word in TOKEN.findall(text)}
        for line in (self.folder / "episodes.jsonl").read_text().splitlines():
            said = json.loads(line)
            place = said["round"], said["label"]
            features[place] |= {f"episodes.jsonl.{k}": v for k, v in said.items()}
            folder = self.folder / "episodes" / f"episode_{said['episode']:06d}"
            manifest = json.loads((folder / "manifest.json").read_text())
            features[place] |= {f"manifest.{k}": v for k, v in manifest.items()}
        return features

    def _begins(self):
        """Return when each episode was first heard of, and its place, in order."""
        begins, newest = [], 0
        for at, topic, kind, data in self.heard:
            if topic == "/episode_state":
                state = deserialize_message(data, kind)
                if state.episode > newest and state.phase != EpisodeState.FINISHED:
                    newest = state.episode
                    begins.append((at, (state.round, state.label)))
        return begins


def _place(begins, at):
    places = [place for (start, place), (end, _) in pairwise([*begins, (np.inf, None)])
              if start <= at < end]  # fmt: skip
    return places[0] if places else None


def fields(message, path=""):
    """Yield (path, value) of every field; numbers' arrays as tuples."""
    for name in message.get_fields_and_field_types():
        value = getattr(message, name)
        here = f"{path}.{name}"
        if hasattr(value, "get_fields_and_field_types"):
            yield from fields(value, here)
        elif isinstance(value, (list, tuple)) and value and hasattr(value[0], "SLOT_TYPES"):
            for index, item in enumerate(value):
                yield from fields(item, f"{here}[{index}]")
        elif isinstance(value, (bool, int, float, str)):
            yield here, value
        elif isinstance(value, bytes):
            yield here, value.hex()
        else:
            yield here, tuple(np.asarray(value).tolist())


def summary(path, values):
    """Return what of a field's values in one episode could tell something."""
    found = {f"{path} first": values[0], f"{path} last": values[-1], f"{path} count": len(values)}
    if all(isinstance(v, (bool, int, float)) for v in values):
        found[f"{path} mean"] = float(np.mean(values))
        found[f"{path} spread"] = float(np.ptp(np.asarray(values, float)))
    elif all(isinstance(v, str) for v in values):
        found[f"{path} all"] = tuple(sorted(set(values)))
    else:
        found[f"{path} lengths"] = tuple(sorted({len(v) for v in values}))
    return found


def signs(features, order):
    """Return how the two policies compare in each thing that was seen, round by round.

    1: larger for the first, -1: smaller, 0: alike.

    Args:
        features: From `Onlooker.seen`.
        order: For each round the policies' indices in the order of the labels.
    """
    names = sorted({name for found in features.values() for name in found})
    rows = {}
    for name in names:
        rows[name] = []
        for number, who in enumerate(order, 1):
            pair = [features[number, "AB"[who.index(i)]] for i in (0, 1)]
            # A topic's first messages may come before this reader was found: that tells nothing.
            if not name.startswith("/") or all(name in found for found in pair):
                rows[name].append(_sign(*(found.get(name, False) for found in pair)))
    return rows


def _sign(first, second):
    try:
        return int(first > second) - int(first < second)
    except TypeError:  # of two kinds: one of them was not seen at all
        return int(str(first) > str(second)) - int(str(first) < str(second))


def telling(found):
    """Return what told the policies apart in every round in which it was seen, and in enough."""
    return sorted(n for n, row in found.items() if len(row) > 6 and abs(sum(row)) == len(row))


def read_lines(process, said):
    """Take the lines of a process with the time of each, until it ends."""
    for line in process.stdout:
        said.append((time.time(), line.rstrip()))


def wait_for(condition, timeout_s=120.0):
    """Return whether something came true in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def lines_of(folder: Path):
    """Return the lines of an evaluation's log."""
    file = folder / "episodes.jsonl"
    return [json.loads(x) for x in file.read_text().splitlines()] if file.exists() else []
