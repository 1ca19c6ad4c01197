"""The shipped Foxglove layout shows what our bags hold."""

import json
import re

from bag_maker import CONFIG, vega_contract

from resfit_core.data.bag_types import TOPICS, name_in_bag, topic_of, type_store

LAYOUT = json.loads((CONFIG / "foxglove/resfit.json").read_text())


def leaves(tree):
    if isinstance(tree, str):
        return [tree]
    return leaves(tree["first"]) + leaves(tree["second"])


def test_each_panel_is_placed_once():
    assert sorted(leaves(LAYOUT["layout"])) == sorted(LAYOUT["configById"])


def test_each_path_is_a_field_of_a_recorded_message():
    contract = vega_contract("pixels")
    cameras = {contract.camera(name).topic for name in contract.images}
    seen = set()
    for panel in LAYOUT["configById"].values():
        if "imageMode" in panel:
            assert panel["imageMode"]["imageTopic"] in {name_in_bag(topic) for topic in cameras}
            continue
        for value in [p["value"] for p in panel.get("paths", [])] or [panel["topicPath"]]:
            topic, *field = re.sub(r"\[\d+\]", "", value).split(".")
            assert topic == name_in_bag(topic), value
            topic = topic_of(topic)
            fields = {name for name, _ in type_store().fielddefs[TOPICS[topic]][1]}
            assert set(field) <= fields, value
            places = [int(i) for i in re.findall(r"\[(\d+)\]", value)]
            assert all(place < contract.action_dim for place in places)
            seen.add(topic)
    assert seen == set(TOPICS)
