"""Keys, buttons and pedals: what they mean, and how their records are read. No ROS."""

import os
import queue
import struct
from pathlib import Path

import pytest

from resfit_core.control.press import Press
from resfit_reward.inputs import Gamepad, Inputs, MappingError, press_of
from resfit_reward.linux_keys import CODES, Keypad, KeypadError, presses

SHIPPED = Path(__file__).parents[3] / "config/operator/default.yaml"


def test_shipped_file_says_what_the_defaults_are():
    assert Inputs.load(SHIPPED) == Inputs()


def test_file_changes_what_it_names_and_no_more(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("gamepad: {5: SUCCESS}\n")
    loaded = Inputs.load(file)
    assert loaded.gamepad == {5: "SUCCESS"}
    assert loaded.keyboard == Inputs().keyboard


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("pedal: {a: SUCCESS}", "'pedal' is no device; known: keyboard, gamepad, keypad"),
        ("keyboard: {s: WIN}", "'WIN' is no meaning; known: GO, START"),
        ("keyboard: {s: TIMEOUT}", "'TIMEOUT' is no meaning"),
        ("keyboard: {ss: SUCCESS}", "'ss' is not one character"),
        ("keyboard: {1: SUCCESS}", "quote digits"),
        ("gamepad: {A: SUCCESS}", "'A' is no number of a button"),
        ("keypad: {KEY_FOOT: SUCCESS}", "'KEY_FOOT' is no key"),
        ("keypad: [KEY_A]", "pairs are expected"),
        ("- a", "devices are expected"),
        ("{", "cannot be read"),
    ],
)
def test_wrong_mapping_is_refused_in_one_line(tmp_path, text, part):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(MappingError) as error:
        Inputs.load(file)
    assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_go_and_pause_depend_on_what_the_run_waits_for():
    assert [press_of("GO", waits) for waits in (True, False)] == [Press.START, Press.RESET_DONE]
    assert [press_of("PAUSE", waits) for waits in (True, False)] == [Press.RESUME, Press.PAUSE]


def test_held_button_is_one_press():
    pad = Gamepad({0: "SUCCESS", 1: "FAILURE"})
    seen = [pad.pressed(b) for b in ([0, 0], [1, 0], [1, 0], [1, 1], [0, 0], [1, 0, 1])]
    assert seen == [[], ["SUCCESS"], [], ["FAILURE"], [], ["SUCCESS"]]


def test_button_held_since_before_presses_nothing():
    pad = Gamepad({0: "SUCCESS"})
    assert pad.pressed([1]) == []
    assert pad.pressed([0]) == []
    assert pad.pressed([1]) == ["SUCCESS"]


def event(kind, code, value, seconds=7, micros=250_000):
    return struct.pack("llHHi", seconds, micros, kind, code, value)


def test_codes_are_those_of_the_kernel():
    """From linux/input-event-codes.h."""
    known = {"KEY_ESC": 1, "KEY_A": 30, "KEY_SPACE": 57, "KEY_F10": 68, "KEY_KP7": 71,
             "KEY_KP0": 82, "KEY_KPENTER": 96, "KEY_DELETE": 111, "KEY_F12": 88, "BTN_0": 256,
             "BTN_LEFT": 272}  # fmt: skip
    assert {name: CODES[name] for name in known} == known


def test_only_keys_that_go_down_count_with_the_kernels_stamp():
    data = event(4, 4, 30) + event(1, 30, 1) + event(0, 0, 0) + event(1, 30, 2) + event(1, 30, 0)
    assert presses(data + b"half") == [("KEY_A", 7_250_000_000)]


def test_keypad_is_read_from_its_device_and_its_loss_is_told(tmp_path):
    path = tmp_path / "event0"
    os.mkfifo(path)
    keys, lost = queue.Queue(), queue.Queue()
    keypad = Keypad(str(path), lambda *a: keys.put(a), lost.put)
    writer = os.open(path, os.O_WRONLY)
    keypad.start()
    os.write(writer, event(1, CODES["KEY_KP1"], 1))
    assert keys.get(timeout=10) == ("KEY_KP1", 7_250_000_000)
    os.close(writer)
    assert "is lost" in lost.get(timeout=10)
    keypad.stop()


def test_device_that_is_not_there():
    with pytest.raises(KeypadError, match="/dev/input/nothing"):
        Keypad("/dev/input/nothing", print, print)
