"""Arguments: typed, and every mistake is one line that names value and fix."""

import pytest

from resfit_bringup.arguments import Argument, parse_all, split_pairs
from resfit_bringup.errors import UsageError

ARGUMENTS = (
    Argument("episodes", 300, "a number", least=0),
    Argument("share", 0.5, "a share", least=0),
    Argument("video", True, "a switch"),
    Argument("clock", "lockstep", "a choice", choices=("lockstep", "realtime")),
)


def parse(*words: str) -> dict:
    return parse_all(ARGUMENTS, split_pairs(words), "train")


def test_values_take_the_type_of_the_default():
    assert parse("episodes:=7", "share:=1", "video:=FALSE", "clock:=realtime") == {
        "episodes": 7,
        "share": 1.0,
        "video": False,
        "clock": "realtime",
    }


def test_what_is_not_given_keeps_its_default():
    assert parse() == {"episodes": 300, "share": 0.5, "video": True, "clock": "lockstep"}


def test_a_value_may_hold_the_mark_itself():
    assert split_pairs(["base:=a:=b"]) == {"base": "a:=b"}


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("episode:=3", ["'episode'", "did you mean episodes:=?"]),
        ("colour:=red", ["'colour'", "known: episodes, share, video, clock"]),
        ("episodes:=3.5", ["episodes:=3.5", "a whole number of at least 0"]),
        ("episodes:=-1", ["episodes:=-1", "at least 0"]),
        ("share:=nan", ["share:=nan", "a number"]),
        ("video:=maybe", ["video:=maybe", "true or false"]),
        ("clock:=sun", ["clock:=sun", "lockstep, realtime"]),
        ("episodes=3", ["'episodes=3'", "name:=value"]),
    ],
)
def test_mistakes_name_value_and_fix_in_one_line(word, parts):
    with pytest.raises(UsageError) as error:
        parse(word)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_the_same_argument_twice_is_refused():
    with pytest.raises(UsageError, match="twice"):
        parse("episodes:=1", "episodes:=2")
