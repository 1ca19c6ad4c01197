"""Files that pass for a base policy and a demonstration before anybody loads them."""

import dataclasses
import hashlib
import json


def make_base(path, contract, **changes):
    """Write a file that passes for a base policy before it is loaded."""
    from resfit_core import tensorfile
    from resfit_core.base.action_space import BASE_FORMAT, HIGH, LOW

    header = {
        "format": BASE_FORMAT,
        "kind": "act",
        "contract_sha256": contract.sha256,
        "base_sha256": "b" * 64,
        **changes,
    }
    path.write_bytes(tensorfile.pack({LOW: contract.lower, HIGH: contract.upper}, header))


def make_demo(folder, contract):
    """Write a manifest with a bag that it describes."""
    from resfit_core.data.bags import Manifest

    folder.mkdir(parents=True)
    (folder / "e.mcap").write_bytes(b"a bag")
    zero = {"int": 0, "float": 0.0, "bool": False, "str": ""}
    values = {f.name: zero[f.type] for f in dataclasses.fields(Manifest)}
    values |= {
        "format": "resfit-bag-1",
        "contract_sha256": contract.sha256,
        "bag_file": "e.mcap",
        "bag_sha256": hashlib.sha256(b"a bag").hexdigest(),
    }
    (folder / "manifest.json").write_text(json.dumps(values))
