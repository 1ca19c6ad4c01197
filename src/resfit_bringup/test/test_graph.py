"""The description of the jobs: complete, typed, and strict about what a user gives."""

import json
import re

import pytest
import yaml

from resfit_bringup import node_parameters, paths
from resfit_bringup.errors import UsageError
from resfit_bringup.graph import JOBS, Ref, resolve

OPTIONAL = ("zed_camera", "success_classifier", "teleop", "expert_teleop")
TRAIN_NODES = {
    "base_policy": "resfit_base",
    "residual_policy": "resfit_residual",
    "recorder": "resfit_residual",
    "learner": "resfit_residual",
    "vega_driver": "resfit_vega_driver",
    "reward_button": "resfit_reward",
    "episode_manager": "resfit_reward",
    "twin": "resfit_sim",
    "panel": "resfit_reward",
    "zed_camera": "resfit_vega_driver",
    "success_classifier": "resfit_reward",
    "teleop": "resfit_reward",
    "expert_teleop": "resfit_sim",
}


def parameters(plan, name):
    return next(n.parameters for n in plan.nodes if n.name == name)


def test_train_has_the_nodes_of_the_architecture():
    assert {n.name: n.package for n in JOBS["train"].nodes} == TRAIN_NODES


@pytest.mark.parametrize("job", JOBS.values(), ids=lambda j: j.name)
def test_every_job_is_complete(job):
    names = [n.name for n in job.nodes]
    assert len(set(names)) == len(names)
    assert job.finisher in names
    assert all(a.help for a in job.arguments)
    assert len({a.name for a in job.arguments}) == len(job.arguments)
    if job.name == "learner":  # half a graph: the robot is on another machine
        return
    # In a replay the player stands where the twin and the people stand, in Gazebo the bridge.
    world = {"replay": "player", "gazebo": "parameter_bridge"}.get(job.name, "twin")
    console = [] if job.name == "replay" else ["reward_button"]
    assert {n.name for n in job.nodes if n.required} == {world, "vega_driver"}
    assert [n.name for n in job.nodes if n.console] == console


@pytest.mark.parametrize("name", [j.name for j in JOBS.values() if not j.blind])
def test_every_reference_is_resolved_to_a_plain_value(share, name):
    has_panel = any(argument.name == "panel" for argument in JOBS[name].arguments)
    plan = resolve(name, {"panel": "true"} if has_panel else {})
    for node in plan.nodes:
        for key, value in node.parameters.items():
            assert not isinstance(value, Ref), (node.name, key)
            assert isinstance(value, (str, bool, int, float)), (node.name, key)


def test_a_replay_has_the_settings_of_the_bags_run(share, tmp_path):
    run = tmp_path / "runs" / "old"
    bag = run / "episodes" / "episode_000007"
    bag.mkdir(parents=True)
    base = str(tmp_path / "mine.pt")
    (tmp_path / "mine.pt").touch()
    arguments = {"seed": 5, "base": base, "observation": "pixels", "clock": "realtime"}
    (run / "run.json").write_text(json.dumps({"arguments": arguments}))
    plan = resolve("replay", {"bag": str(bag), "seed": "6"})
    assert (plan.values["base"], plan.values["observation"]) == (base, "pixels")
    assert plan.values["seed"] == 6 and plan.finisher == "player"
    assert plan.values["run_dir"] != str(run)
    assert {n.name: n.parameters["clock"] for n in plan.nodes if "clock" in n.parameters} == {
        "vega_driver": "lockstep", "base_policy": "lockstep", "residual_policy": "lockstep",
    }  # fmt: skip
    with pytest.raises(UsageError, match="nothing does not exist"):
        resolve("replay", {"bag": str(tmp_path / "nothing")})


def test_learning_settings_are_the_task_s_own_where_it_has_some(share):
    folder = share / "config" / "train"
    (folder / "package_handover.yaml").write_text("warmup_episodes: 3\n")

    def chosen(**given):
        return resolve("train", given).sources["train"].rpartition("/")[2]

    assert chosen() == "default.yaml"
    assert chosen(task="package_handover") == "package_handover.yaml"
    assert chosen(task="package_handover", train_config="default") == "default.yaml"
    assert chosen(observation="pixels") == "default.yaml"
    (folder / "pixels.yaml").write_text("critic_view: raw\n")
    assert chosen(task="package_handover", observation="pixels") == "pixels.yaml"
    (folder / "package_handover_pixels.yaml").write_text("critic_view: raw\n")
    assert chosen(task="package_handover", observation="pixels") == "package_handover_pixels.yaml"


def test_environment_is_never_chosen_by_the_graph():
    """Domain and discovery range are the user's."""
    from pathlib import Path

    import resfit_bringup

    for file in Path(resfit_bringup.__file__).parent.glob("*.py"):
        code = re.sub(r'"""(?s:.*?)"""', "", file.read_text())
        assert "ROS_DOMAIN_ID" not in code, file.name
        assert "DISCOVERY_RANGE" not in code, file.name


def test_arguments_reach_the_nodes(share):
    plan = resolve("train", {"episodes": "12", "seed": "3", "clock": "realtime", "run_dir": "r"})
    manager = parameters(plan, "episode_manager")
    assert manager["episodes"] == 12
    assert manager["seed"] == 3
    assert manager["run_dir"] == str((share.parent / "r").resolve())
    assert parameters(plan, "twin")["clock"] == "realtime"
    assert parameters(plan, "base_policy")["robot_file"].endswith("/r/config/robot.yaml")
    assert plan.sources["robot"].endswith("config/robot/vega_1.yaml")


def test_warmup_comes_from_the_learning_settings_unless_given(share):
    assert parameters(resolve("train", {}), "episode_manager")["warmup_episodes"] == 7
    given = resolve("train", {"warmup_episodes": "2"})
    assert parameters(given, "episode_manager")["warmup_episodes"] == 2


def test_record_lets_the_expert_act_in_the_bases_place(share):
    plan = resolve("record", {})
    assert parameters(plan, "base_policy")["base"] == "resfit_sim.expert:ExpertBase"
    assert parameters(plan, "episode_manager")["mode"] == "demo"
    assert "learner" not in [n.name for n in plan.nodes]


@pytest.mark.parametrize(
    ("who", "name"), [("gamepad", "teleop"), ("expert", "expert_teleop"), ("none", "")]
)
def test_who_may_take_over_is_one_at_most(share, tmp_path, who, name):
    (tmp_path / "mine.yaml").write_text("")
    plan = resolve("train", {"teleop": who, "teleop_mapping": str(tmp_path / "mine.yaml")})
    assert [n.name for n in plan.nodes if "teleop" in n.name] == [name] * bool(name)


def test_panel_runs_where_it_is_asked_for_and_knows_the_others(share):
    assert "panel" not in [n.name for n in resolve("train", {}).nodes]
    plan = resolve("train", {"panel": "true", "panel_port": "9000"})
    given = parameters(plan, "panel")
    assert (given["panel_port"], given["panel_host"]) == (9000, "127.0.0.1")
    assert set(given["expected_nodes"].split(",")) == set(TRAIN_NODES) - {"panel", *OPTIONAL}


def test_the_camera_node_runs_where_it_is_asked_for_and_the_twin_draws_no_more(share):
    plan = resolve("train", {"clock": "realtime"})
    assert "zed_camera" not in [n.name for n in plan.nodes]
    assert parameters(plan, "twin")["camera"] == "none"
    given = {"clock": "realtime", "camera": "file", "camera_file": "x.mp4", "panel": "true"}
    plan = resolve("train", given)
    camera = parameters(plan, "zed_camera")
    assert (camera["source"], camera["file"][-6:], camera["file"][0]) == ("file", "/x.mp4", "/")
    assert parameters(plan, "twin")["camera"] == "file"


def test_classifier_joins_the_button_and_quiets_the_oracle(share):
    file = share.parent / "seen.safetensors"
    file.touch()
    plan = resolve("train", {"reward": "classifier", "classifier": str(file)})
    assert parameters(plan, "success_classifier")["classifier"] == str(file)
    assert parameters(plan, "twin")["reward"] == "classifier"
    assert "reward_button" in [n.name for n in plan.nodes]
    assert "success_classifier" not in [n.name for n in resolve("train", {}).nodes]


def test_latest_is_followed_to_the_run_itself(share):
    run = share.parent / "runs" / "20260101_000000"
    run.mkdir(parents=True)
    (run.parent / "latest").symlink_to(run.name)
    plan = resolve("train", {"run_dir": "runs/latest"})
    assert plan.values["run_dir"] == str(run.resolve())


@pytest.mark.parametrize(
    ("job", "given", "parts"),
    [
        ("train", {"robot": "panda"}, ["'panda'", "config/robot", "vega_1"]),
        ("train", {"robot": "external"}, ["vega_1", "client:=external"]),
        ("train", {"task": "x/y.yaml"}, ["x/y.yaml", "does not exist"]),
        ("train", {"base": "my.safetensors"}, ["my.safetensors", "base:="]),
        ("train", {"demos": "nowhere"}, ["nowhere", "demos:="]),
        ("train", {"train_config": "fast"}, ["'fast'", "config/train", "default"]),
        ("train", {"camera": "sdk"}, ["camera:=sdk", "clock:=realtime"]),
        ("train", {"reward": "classifier"}, ["reward:=classifier", "classifier:="]),
        ("train", {"classifier": "x.safetensors"}, ["classifier:=x", "add reward:=classifier"]),
        (
            "train",
            {"reward": "classifier", "classifier": "x.safetensors"},
            ["x.safetensors", "train-classifier"],
        ),
        ("fly", {}, ["'fly'", "train, evaluate, record"]),
    ],
)
def test_bad_values_are_one_line_with_the_fix(share, job, given, parts):
    with pytest.raises(UsageError) as error:
        resolve(job, given)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def params_file(share, content):
    file = share.parent / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    return {"params_file": str(file)}


def test_a_params_file_adds_to_the_nodes_it_names(share):
    content = {
        "/**": {"ros__parameters": {"x": 1}},
        "/twin": {"ros__parameters": {"lockstep_timeout_s": 3.0}},
    }
    plan = resolve("train", params_file(share, content))
    assert parameters(plan, "twin")["lockstep_timeout_s"] == 3.0
    assert parameters(plan, "recorder")["x"] == 1
    assert "lockstep_timeout_s" not in parameters(plan, "recorder")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"twinn": {"ros__parameters": {"a": 1}}}, "'twinn'"),
        ({"twin": {"a": 1}}, "ros__parameters"),
        ({"twin": {"ros__parameters": {"clock": "realtime"}}}, "clock:="),
        (["a"], "node names"),
    ],
)
def test_a_wrong_params_file_is_refused(share, content, part):
    with pytest.raises(UsageError, match=re.escape(part)):
        resolve("train", params_file(share, content))


def test_parameter_files_keep_types(share, tmp_path):
    plan = resolve("train", {"run_dir": "2024", "log_level": "warn"})
    files = node_parameters.write(plan.nodes, tmp_path / "nodes")
    for node in plan.nodes:
        loaded = yaml.safe_load(files[node.name].read_text())
        assert loaded == {node.name: {"ros__parameters": dict(node.parameters)}}


def test_the_real_share_folder_is_found():
    assert (paths.share() / "config" / "robot" / "vega_1.yaml").is_file()
    assert (paths.share() / "launch" / "train.launch.py").is_file()


def test_the_learner_on_another_machine(share):
    """The robot's half and the workstation's half make up the whole graph, none twice."""
    whole = resolve("train", {"run_dir": "runs/cup"})
    robot = resolve("train", {"run_dir": "runs/cup", "learner": "external", "panel": "true"})
    (learner,) = resolve("learner", {"run_dir": "runs/cup"}).nodes
    names = [n.name for n in robot.nodes if n.name != "panel"]
    assert {*names, learner.name} == {n.name for n in whole.nodes}
    assert "learner" not in names
    here = next(n for n in whole.nodes if n.name == "learner")
    assert learner.parameters == here.parameters
    parameters = {n.name: n.parameters for n in robot.nodes}
    assert parameters["recorder"]["store_weights"] is True
    assert "learner" in parameters["panel"]["expected_nodes"].split(",")
    recorder = next(n for n in whole.nodes if n.name == "recorder")
    assert recorder.parameters["store_weights"] is False
