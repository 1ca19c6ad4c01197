from types import SimpleNamespace

import numpy as np
from benchmarks.metaworld.contacts import touching

PADS = {"leftpad_geom": 1, "rightpad_geom": 2}
THING = 3


def slow(env, thing):
    """The rule as Meta-World writes it: a list of contacts per pad, their forces added up."""
    forces = []
    for pad in PADS.values():
        mine = [
            address
            for a, b, address in zip(
                env.data.contact.geom1,
                env.data.contact.geom2,
                env.data.contact.efc_address,
                strict=True,
            )
            if pad in (a, b) and thing in (a, b)
        ]
        forces.append(sum(env.data.efc_force[address] for address in mine))
    return all(force > 0 for force in forces)


def scene(rng):
    count = int(rng.integers(0, 12))
    contact = SimpleNamespace(
        geom1=rng.integers(0, 5, count),
        geom2=rng.integers(0, 5, count),
        efc_address=rng.permutation(count),
    )
    data = SimpleNamespace(
        contact=contact,
        efc_force=np.maximum(rng.normal(size=count), 0.0),
        geom=lambda name: SimpleNamespace(id=PADS[name]),
    )
    return SimpleNamespace(data=data)


def test_touching_is_what_meta_world_says():
    rng = np.random.default_rng(0)
    scenes = [scene(rng) for _ in range(3000)]
    found = [touching(env, THING) for env in scenes]
    assert found == [slow(env, THING) for env in scenes]
    assert 100 < sum(found) < 2900
