import dataclasses
import json
import sys

import pytest
from benchmarks import methods, methods_figures
from benchmarks.methods_table import Cell, Phase, groups, same, smoke_groups

CELL = Cell("reach", "resfit", "default", "ours", phases=(Phase(100, 50, 2), Phase(200, 100, 2)))


def result(evals, base="1010", residual="1111", **more):
    rows = [{"env_step": step, "success": success, "n": 4} for step, success in evals]
    return {"evals": rows, "base": base, "residual": residual, "cpu_s": 3.0, **more}


def test_every_cell_has_a_name_of_its_own_and_groups_share_runs():
    table = groups()
    cells = methods.unique(table)
    assert len({cell.key for cell in cells}) == len(cells)
    assert len(cells) < sum(len(of) for of in table.values())
    renamed = dataclasses.replace(cells[0], phases=(Phase(1, 1),))
    with pytest.raises(ValueError, match="rename one"):
        methods.unique({"a": [cells[0]], "b": [renamed]})


def test_a_changed_default_is_another_run_and_a_new_setting_is_not():
    spec = CELL.spec()
    assert same(spec, CELL.spec())
    changed = {**spec, "resolved": {**spec["resolved"], "tau": 0.5}}
    grown = {**spec, "resolved": {**spec["resolved"], "came_later": 1}}
    assert not same(changed, spec)
    assert same(spec, grown) and same(grown, spec)
    assert not same(spec, dataclasses.replace(CELL, seed=1).spec())


def test_every_cell_has_settings_that_its_algorithm_knows():
    for cell in methods.unique(groups()):
        assert cell.resolved()["seed"] == cell.seed


def test_the_table_asks_for_what_the_comparison_needs():
    table = groups()
    rows = {cell.row for cell in table["baselines"]}
    for algo in ("resfit", "rlpd", "ibrl", "filtered_bc", "residual_ppo"):
        seeds = [c.seed for c in table["baselines"] if c.algo == algo]
        assert sorted(seeds) == [0, 0, 1, 1, 2, 2], algo
    assert len(rows) == 10
    dips = {(cell.task, cell.name) for cell in table["dip"]}
    # Five tasks: ours, with the published actor, with all published, and that with narrow nets.
    assert len(dips) == 20
    for cell in table["dip"]:
        first = cell.phases[0]
        assert (first.steps, first.every) == (6000, 500) and first.episodes >= 100
    assert {c.seed for c in table["ablations"]} == {0, 1}


def test_a_drop_is_measured_against_the_base_on_the_same_scenes():
    # Base on the first four scenes: 1010, so .5; the later scenes of the final do not count.
    fallen = result([(0, 0.5), (500, 0.25), (1000, 0.75), (9000, 0.0)], base="1010" + "1" * 8)
    assert methods_figures.drops(fallen) == [(500, 0.25), (1000, -0.25)]


def test_the_dip_is_the_worst_mean_and_the_worst_single_run():
    runs = [
        result([(0, 0.5), (500, 0.0), (1000, 0.5)]),  # .5 below, then level
        result([(0, 0.5), (510, 0.5), (1020, 0.25)]),  # level, then .25 below
    ]
    alike = {"alone_mean": 0.25, "alone_single": 0.5}
    assert methods_figures.dip(runs) == {"mean": 0.25, "single": 0.5, **alike}
    # While the residual is on trial the base acts; how the residual did is kept beside it.
    runs[1]["evals"][1] |= {"success": runs[1]["evals"][1]["success"] + 0.25, "alone": 0.0}
    trial = methods_figures.dip(runs)
    assert (trial["mean"], trial["alone_mean"]) == (0.125, 0.5)
    assert methods_figures.dip([]) is None


def test_steps_to_the_goal_use_the_shared_grid():
    # .9 at 1,500 lies between the grid's 0 and 2,500: a run with fewer evaluations misses it too.
    dense = result([(0, 0.5), (1500, 0.95), (2500, 0.8), (5100, 0.92), (7500, 0.95)])
    sparse = result([(0, 0.5), (2500, 0.8), (5100, 0.92), (7500, 0.95)])
    assert methods_figures.steps_to(dense) == methods_figures.steps_to(sparse) == 5100
    assert methods_figures.steps_to(result([(0, 0.5), (2500, 0.8)])) is None


def test_a_row_where_one_seed_never_arrives_has_no_mean():
    arrived, late = result([(0, 0.5), (2600, 1.0)]), result([(0, 0.5), (2600, 0.5)])
    figures = methods_figures.row_figures([arrived, late], 2)
    assert figures["steps_to_90"] == [2600, None]
    assert figures["steps_to_90_mean"] is None
    assert "1 of 2 seeds" in methods_figures.line(("t", "a", "n"), figures)


def test_intervals_of_the_final_success():
    runs = [result([(0, 0.5)], residual="1111"), result([(0, 0.5)], residual="1110")]
    end = methods_figures.pooled(runs, "residual")
    assert end["mean"] == 0.875 and (end["low"], end["high"]) == (0.75, 1.0)
    assert end["wilson"] == pytest.approx((0.5291, 0.9776), abs=1e-3)  # 7 of 8, by hand
    assert end["bootstrap"][0] < 0.875 <= end["bootstrap"][1]


def test_what_is_missing_is_said_so():
    figures = methods_figures.row_figures([], 3)
    assert methods_figures.line(("t", "a", "n"), figures).endswith("missing")
    table = smoke_groups()
    store = methods.Store(methods.ROOT / "no_such", methods.ROOT / "no_such")
    words = methods_figures.last_line(methods.summarise(table, store), 0, 3)
    assert words.startswith("methods: cells=0/3 ") and "dip_mean=missing" in words


def test_an_incomplete_group_gives_no_dip_in_the_last_line():
    of = methods_figures.row_figures([result([(0, 0.5), (500, 0.5)])], 3)
    words = methods_figures.last_line({"dip": {("t", "resfit", "start"): of}}, 1, 3)
    assert "dip_mean=missing" in words
    whole = methods_figures.row_figures([result([(0, 0.5), (500, 0.5)])] * 3, 3)
    words = methods_figures.last_line({"dip": {("t", "resfit", "start"): whole}}, 3, 3)
    assert "dip_mean=0.000" in words


def test_only_a_finished_run_is_kept():
    report = {"finished": False, "env_steps": 1, "updates": 1, "base_sha256": "", "settings": {}}
    final = [{"kind": "final", "policy": p, "verdicts": [True]} for p in ("base", "residual")]
    with pytest.raises(ValueError, match="not finished"):
        methods_figures.result_of(report, final)
    kept = methods_figures.result_of({**report, "finished": True}, final)
    assert (kept["base"], kept["residual"]) == ("1", "1")
    with pytest.raises(ValueError, match="not finished"):
        methods_figures.result_of({**report, "finished": True}, [])


def test_the_command_of_a_phase(tmp_path):
    first = methods.command(CELL, 0, tmp_path)
    last = methods.command(CELL, 1, tmp_path)
    assert first[first.index("--steps") + 1] == "100"
    assert first[first.index("--final-episodes") + 1] == "0"
    assert last[last.index("--steps") + 1] == "200"
    assert last[last.index("--final-episodes") + 1] == "200"
    assert "--resume" in first and "--resume" in last


FAKE = """
import json, pathlib, sys, time
out, phase = pathlib.Path(sys.argv[1]), int(sys.argv[2])
with (out / "calls").open("a") as file:
    file.write(f"{phase} ")
if (out / "hang").exists():
    (out / "hang").unlink()
    (out / "hanging").touch()
    time.sleep(60)
if phase == 1:
    final = [{"kind": "final", "policy": p, "verdicts": [True] * 4} for p in ("base", "residual")]
    (out / "progress.jsonl").write_text("\\n".join(json.dumps(row) for row in final))
    report = {"finished": True, "env_steps": 2, "updates": 1, "base_sha256": "", "settings": {}}
    (out / "report.json").write_text(json.dumps(report))
"""


def fake(cell, phase, out):
    return [sys.executable, "-c", FAKE, str(out), str(phase)]


def test_a_cell_cut_short_goes_on_in_its_phase_and_is_not_run_again(tmp_path):
    store = methods.Store(tmp_path / "kept", tmp_path / "runs")
    out = store.runs / CELL.key
    out.mkdir(parents=True)
    (out / "hang").touch()
    assert methods.run([CELL], store, 1, 2.0, fake) == []
    assert store.result(CELL) is None
    assert methods.run([CELL], store, 1, 60.0, fake) == []
    kept = store.result(CELL)
    assert kept["base"] == "1111" and kept["cpu_s"] >= 0
    # The first call hung and was ended in phase 0; then phase 0 again and phase 1.
    assert (out / "calls").read_text().split() in (["0", "0", "1"], ["0", "1"])
    changed = dataclasses.replace(CELL, settings=("utd=2",))
    assert store.result(changed) is None, "another setting is another run"


def test_a_failing_cell_is_named_and_the_others_go_on(tmp_path, capsys):
    store = methods.Store(tmp_path / "kept", tmp_path / "runs")
    good = dataclasses.replace(CELL, seed=1)

    def make(cell, phase, out):
        bad = [sys.executable, "-c", "import sys; print('no such base'); sys.exit(2)"]
        return bad if cell == CELL else fake(cell, phase, out)

    assert methods.run([CELL, good], store, 1, 60.0, make) == [CELL.key]
    assert "no such base" in capsys.readouterr().out
    assert store.result(good) is not None and store.result(CELL) is None


def test_tables_are_written_from_what_is_kept(tmp_path, capsys):
    store = methods.Store(tmp_path / "kept", tmp_path / "runs")
    for seed in range(2):
        cell = dataclasses.replace(CELL, seed=seed)
        store.keep(cell, result([(0, 0.5), (500, 0.25), (2500, 1.0)]))
    table = {"baselines": [dataclasses.replace(CELL, seed=seed) for seed in range(3)]}
    pytest.importorskip("matplotlib")
    methods.show_table(table, store, tmp_path / "out")
    said = capsys.readouterr().out
    assert "2/3" in said and said.splitlines()[-1].startswith("methods: cells=2/3")
    written = json.loads((tmp_path / "out" / "methods.json").read_text())
    assert written["baselines"]["reach | resfit | default"]["dip"] == {
        **{"mean": 0.25, "single": 0.25, "alone_mean": 0.25, "alone_single": 0.25}
    }
    assert (tmp_path / "out" / "baselines.png").exists()
