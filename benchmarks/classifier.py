"""The success classifier on the twin: precision and recall on episodes it never saw.

    make bench-classifier                             records 80 clumsy episodes, trains, measures
    make bench-classifier ARGS="--episodes-dir runs/pixels"     trains on what is there already

Half of the expert's scenes are misjudged by 3 to 8 cm, most of these fail. One episode in four is
held out. The last line is `classifier: key=value ...`; benchmarks/results/classifier.json has it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from resfit_bringup import classifier
from resfit_bringup.arguments import parse_all

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
RECORD = ("base:=resfit_sim.expert:ClumsyExpert", "observation:=pixels", "keyboard:=false")


def record(folder: Path, episodes: int) -> None:
    """Record episodes through all nodes.

    Raises:
        CalledProcessError: The run failed.
    """
    command = [sys.executable, "-m", "resfit_bringup.main", "run", "record", *RECORD]
    words = [f"run_dir:={folder}", f"episodes:={episodes}"]
    subprocess.run([*command, *words], check=True, cwd=ROOT)


def main() -> None:
    """Record where asked, train, print, write the JSON."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--episodes", type=int, default=80, help="to record")
    parse.add_argument("--episodes-dir", type=Path, help="recorded ones; none: record some")
    parse.add_argument("--steps", type=int, default=600, help="of training")
    args = parse.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.episodes_dir or Path(scratch, "clumsy")
        if args.episodes_dir is None:
            record(folder, args.episodes)
        given = {
            "episodes": str(folder),
            "out": f"{scratch}/success.safetensors",
            "steps": str(args.steps),
        }
        begin = time.monotonic()
        found = classifier.make(parse_all(classifier.ARGUMENTS, given, "bench-classifier"))
        seconds = time.monotonic() - begin
    kept = {
        "name": "classifier",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "time": time.strftime("%Y-%m-%d"),
        "train_s": round(seconds, 1),
        **found,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "classifier.json").write_text(json.dumps(kept, indent=1) + "\n")
    print(classifier.summary(found))


if __name__ == "__main__":
    main()
