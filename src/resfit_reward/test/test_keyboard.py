"""The keyboard on a pseudo terminal; needs no ROS."""

import os
import pty
import queue
import termios

import pytest

from resfit_reward.keyboard import Keyboard


@pytest.fixture
def terminal():
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def test_keys_come_one_by_one_and_the_terminal_comes_back(terminal):
    ours, theirs = terminal
    before = termios.tcgetattr(theirs)
    keys = queue.Queue()
    keyboard = Keyboard(theirs, keys.put)
    assert keyboard.start() == ""
    os.write(ours, b"sf")
    assert [keys.get(timeout=5), keys.get(timeout=5)] == ["s", "f"]
    keyboard.stop()
    assert termios.tcgetattr(theirs) == before


def test_a_file_is_no_keyboard(tmp_path):
    with (tmp_path / "x").open("w+") as file:
        keyboard = Keyboard(file.fileno(), print)
        assert "no terminal" in keyboard.start()
        keyboard.stop()
