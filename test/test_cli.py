"""The command line: quick help, one-line errors, exit codes, and each sub-command that needs no long run."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Annotated, get_type_hints

import numpy as np
import pytest
import tyro

import qgf_ros
from qgf_ros.cli import COMMANDS, main
from qgf_ros.commands.show.algorithm_arguments import algorithm_arguments
from qgf_ros.commands.show.arguments import run_arguments
from qgf_ros.commands.show.option_groups import GROUPS, grouped
from qgf_ros.control.run_options import ROWS, RunOptions
from qgf_ros.errors import QgfError
from qgf_ros.launching.extras import install_command
from qgf_ros.learning.algorithms.options import OPTIONS

ROOT = Path(__file__).resolve().parents[1]


def qgf(*arguments, **options):
    command = [sys.executable, "-m", "qgf_ros.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, **options)


@pytest.fixture
def command(monkeypatch):
    """Put a function in place of `qgf inspect`."""

    def install(function):
        def stand_in(bundle: Path, /) -> None:
            function()

        monkeypatch.setitem(COMMANDS, "inspect", stand_in)

    return install


def test_help_takes_less_than_half_a_second():
    """Of processor time, so that a busy machine is not what is measured."""

    def once():
        before = os.times()
        done = qgf("--help")
        after = os.times()
        assert done.returncode == 0
        assert all(name in done.stdout for name in COMMANDS)
        return after.children_user - before.children_user + after.children_system - before.children_system

    once()  # compiles the sources
    assert min(once() for _ in range(3)) < 0.5


@pytest.mark.parametrize("name", COMMANDS)
def test_every_sub_command_describes_itself_and_all_its_options(name, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    hints = get_type_hints(COMMANDS[name], include_extras=True)
    for parameter in inspect.signature(COMMANDS[name]).parameters.values():
        # What has sub-commands is no option.
        if parameter.kind is parameter.POSITIONAL_ONLY or parameter.name in ("analysis", "action", "measurement"):
            continue
        settings = getattr(hints[parameter.name], "__metadata__", ())
        makers = [maker for setting in settings if (maker := getattr(setting, "constructor_factory", None)) is not None]
        # What is made of the rows of a run has an option for each.
        names = inspect.signature(makers[0]()).parameters if makers else [parameter.name]
        assert names
        assert all(f"--{option.replace('_', '-')}" in text for option in names)
    described = inspect.getdoc(COMMANDS[name])
    for parameter in inspect.signature(COMMANDS[name]).parameters:
        assert f"    {parameter}: " in described, f"{name} does not say what {parameter} is"


def test_an_error_is_one_red_line_and_exit_code_2(command, capsys, monkeypatch):
    sentence = "models/x is wrong in a way that takes more than one terminal line of eighty columns to tell; mend it"

    def fail():
        raise QgfError(sentence)

    command(fail)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert main(["inspect", "x"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"\x1b[31mqgf: {sentence}\x1b[0m\n"


def test_ctrl_c_gives_exit_code_130(command):
    def interrupt():
        raise KeyboardInterrupt

    command(interrupt)
    assert main(["inspect", "x"]) == 130


@pytest.mark.parametrize(
    ("package", "extra"), [("mujoco", "sim"), ("torch.nn", "train"), ("rclpy", "ros"), ("onnxruntime", "cpu")]
)
def test_a_missing_package_names_the_extra_that_brings_it(command, capsys, package, extra):
    def fail():
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    command(fail)
    assert main(["inspect", "x"]) == 2
    error = capsys.readouterr().err
    assert f"{package.partition('.')[0]} cannot be imported (No module named {package!r}); " in error
    assert f"install it with: {install_command(extra)}\n" in error
    assert error.count("\n") == 1


def test_a_mistake_of_ours_keeps_its_traceback(command):
    def fail():
        raise ModuleNotFoundError("No module named 'qgf_ros.nonsense'", name="qgf_ros.nonsense")

    command(fail)
    with pytest.raises(ModuleNotFoundError):
        main(["inspect", "x"])


def test_sigterm_unwinds_like_an_exit(command):
    cleaned = []

    def wait():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            cleaned.append(True)

    command(wait)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as exit_:
        main(["inspect", "x"])
    assert signal.getsignal(signal.SIGTERM) is before
    assert exit_.value.code == 143
    assert cleaned


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("trian", "qgf has no command trian; did you mean train?"),
        ("analyze succes", "qgf analyze has no command succes; did you mean success?"),
        ("contract nonsense x", "qgf contract has no command nonsense; see qgf contract --help"),
        (
            "evaluate x --epsiodes 3",
            "qgf evaluate has no option --epsiodes; did you mean --episodes?",
        ),
        ("tune x --guidance_wieghts=0", "qgf tune has no option --guidance_wieghts; did you mean --guidance-weights?"),
        ("evaluate x --zzz", "qgf evaluate has no option --zzz; see qgf evaluate --help"),
        ("evaluate x y", "y was given to qgf evaluate, which takes no more words; see qgf evaluate --help"),
        ("evaluate", "qgf evaluate needs PATH; see qgf evaluate --help"),
        ("train --dataset y.npz", "qgf train needs --out; see qgf train --help"),
        ("evaluate x --episodes", "--episodes was given without its value; see qgf evaluate --help"),
        (
            "evaluate x --guidance-weights abc",
            "--guidance-weights: 'abc' was given, expected numbers separated by commas",
        ),
        ("evaluate x --guidance-weights 0;1", "'0;1' was given, expected numbers separated by commas, such as 0,0.1"),
        ("evaluate x --guidance-weights=", "'' was given, expected numbers separated by commas, such as 0,0.1"),
        ("evaluate x --tasks 1,x", "--tasks: '1,x' was given, expected numbers separated by commas, such as 1,2,3"),
        ("evaluate x --workers two", "--workers 'two' was given, expected an integer; see qgf evaluate --help"),
        ("evaluate x --workers None", "--workers 'None' was given, expected an integer"),
        ("tune x --max-gradient-norm a", "--max-gradient-norm 'a' was given, expected a number"),
        ("evaluate x --estimator qfg", "grad_step, robust, classifier_free; did you mean qgf?"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence_with_the_nearest_name(words, sentence, capsys):
    assert main(words.split(" ")) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("qgf: ")
    assert captured.err.count("\n") == 1
    assert sentence in captured.err
    assert "typing" not in captured.err
    assert "0x" not in captured.err


def test_nothing_is_no_choice_to_give(capsys):
    assert main(["train", "--dataset", "x", "--out", "y", "--reward", "spars"]) == 2
    said = capsys.readouterr().err
    assert said.endswith("; did you mean sparse?\n")
    assert "dense" in said
    assert "None" not in said


def test_without_a_word_from_tyro_about_mistakes_they_are_refused_all_the_same(monkeypatch, capsys):
    monkeypatch.setattr("tyro._errors", None)
    with pytest.raises(SystemExit) as exit_:
        main(["--nonsense"])
    assert exit_.value.code == 2
    assert "nonsense" in capsys.readouterr().err


def test_what_is_refused_shows_no_progress_before(tmp_path, capsys):
    assert main(["generate", "sceen", "--out", str(tmp_path / "x.npz")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("qgf: environment sceen is unknown")
    assert captured.err.count("\n") == 1


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"qgf_ros {qgf_ros.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_the_names_that_there_are(shell, tmp_path):
    path = tmp_path / "qgf"
    with pytest.raises(SystemExit) as exit_:
        main(["--tyro-write-completion", shell, str(path)])
    assert not exit_.value.code
    text = path.read_text()
    assert all(name in text for name in (*COMMANDS, "guidance-weights"))


def test_the_options_of_a_run_stand_in_groups(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    text = capsys.readouterr().out
    own, guidance, execution, output, machine = (
        re.search(rf"^\W*{title} ", text, re.MULTILINE).start()
        for title in ("options", "guidance options", "execution options", "output options", "machine options")
    )
    for name, after, before in (
        ("--episodes ", own, guidance),
        ("--estimator ", guidance, execution),
        ("--execution-horizon ", execution, output),
        ("--json ", output, machine),
        ("--workers ", machine, len(text)),
    ):
        assert after < text.index(f" {name}") < before


@pytest.mark.parametrize("name", COMMANDS)
def test_options_in_groups_reach_the_command_as_without_them(name):
    """Every option that a command has without groups, and no other, with its default."""

    def flat(signature):
        values = {}
        for parameter in signature.parameters.values():
            settings = getattr(parameter.annotation, "__metadata__", ())
            makers = [made for one in settings if (made := getattr(one, "constructor_factory", None)) is not None]
            if makers:
                values |= flat(inspect.signature(makers[0]()))
            else:
                values[parameter.name] = parameter.default
        return values

    hints = get_type_hints(COMMANDS[name], include_extras=True)
    plain = inspect.signature(COMMANDS[name])
    plain = plain.replace(parameters=[one.replace(annotation=hints[one.name]) for one in plain.parameters.values()])
    assert flat(inspect.signature(grouped(COMMANDS[name]))) == flat(plain)


def test_a_command_in_groups_is_called_with_what_was_given(monkeypatch):
    calls = []

    def stand_in(
        bundle: Path,
        /,
        *,
        episodes: int = 5,
        json: Path | None = None,
        workers: int | None = None,
        options: Annotated[RunOptions, run_arguments(without=["guidance_weight"])],
    ) -> None:
        """Stand in.

        Args:
            bundle: Folder.
            episodes: How many.
            json: Report.
            workers: Processes.
            options: Of the run.
        """
        calls.append((bundle, episodes, json, workers, options))

    monkeypatch.setitem(COMMANDS, "inspect", stand_in)
    words = "inspect x --json r.json --workers 3 --estimator noisy --execution-horizon 2 --seed 7"
    assert main(words.split()) == 0
    assert calls == [(Path("x"), 5, Path("r.json"), 3, RunOptions(estimator="noisy", execution_horizon=2, seed=7))]


def test_every_option_of_a_run_has_a_group():
    grouped_names = {name for names in GROUPS.values() for name in names}
    assert set(ROWS) - grouped_names == {"seed"}


def test_inspect_prints_the_card_of_a_bundle(tiny_bundle, capsys):
    assert main(["inspect", str(tiny_bundle)]) == 0
    text = capsys.readouterr().out
    for part in ("tiny", "joint_states", "shoulder_pan_joint", "dgripper", "task2", "never evaluated", "velocity.onnx"):
        assert part in text


@pytest.mark.parametrize("columns", [160, 80])
def test_inspect_draws_the_flow_of_data_of_a_bundle_that_sees(tmp_path, capsys, monkeypatch, columns):
    pytest.importorskip("onnx", reason="building encoders needs onnx")
    from camera_bundles import write_camera_bundle

    monkeypatch.setenv("COLUMNS", str(columns))
    critics = {"near": None, "far": 5, "other": None}
    assert main(["inspect", str(write_camera_bundle(tmp_path / "seeing", critics=critics))]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == "flow of data")
    assert [line.rstrip() for line in lines[start + 1 : start + 5]] == [
        "  wrist  uint8 [6, 8, 3] ──┼─> encoder.onnx, once ──> z [7] ──┬─> velocity.onnx, 10 times ──> 3 actions",
        "  front  uint8 [8, 8, 3] ──┼                                  ├─> q_grad.onnx of critic near",
        "  state  float32 [2]     ──┼                                  └─> q_grad.onnx of critic other",
        "                           │─> critics/far/encoder.onnx, once ──> z [5] ────> q_grad.onnx of critic far",
    ]
    wide = any("wrist/image_raw" in line and "rgb8, 16 x 12" in line for line in lines)
    assert wide == (columns == 160), "a table keeps to the width of the console"


def test_inspect_shows_the_evidence_of_an_evaluated_critic(tiny_bundle, capsys):
    from rich.console import Console

    from qgf_ros.bundle.manifest import Evaluation
    from qgf_ros.bundle.store import load_manifest
    from qgf_ros.commands.show.card import card

    manifest = load_manifest(tiny_bundle)
    evidence = Evaluation(
        guidance_weight=0.03,
        episodes=50,
        successes=47,
        ci95=(0.84, 0.98),
        mean_length=61.5,
        first_seed=1000,
        last_seed=1049,
        purpose="reporting",
    )
    found = {
        "evaluations": (evidence,),
        "tested_range": (0.004, 0.3),
        "recommended_limits": {"max_guidance_deviation": 0.5},
    }
    critic = manifest.critics["task1"].model_copy(update=found)
    changed = manifest.model_copy(update={"critics": {"task1": critic}, "training": {"config": {"horizon": 5}}})
    Console(width=100).print(card(changed))
    text = capsys.readouterr().out
    for part in (
        "47/50",
        "84 - 98 %",
        "1000 .. 1049",
        "reporting",
        "0.004 .. 0.3",
        "horizon 5",
        "task1: max_guidance_deviation 0.5",
    ):
        assert part in text


def test_inspect_of_a_damaged_bundle_names_the_file(tiny_bundle, tmp_path, capsys):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    path = copy / "critics/task1/q_grad.onnx"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    assert main(["inspect", str(copy)]) == 2
    assert "q_grad.onnx: sha256 does not match" in capsys.readouterr().err


def test_evaluate_writes_one_record_per_weight(tiny_bundle, tmp_path):
    pytest.importorskip("ogbench")
    report = tmp_path / "report.json"
    done = qgf(
        *("evaluate", tiny_bundle, "--task", 1, "--episodes", 2, "--seed", 9, "--guidance-weights", "0,0.1"),
        *("--json", report, "--workers", 1, "--num-samples", 2, "--execution-horizon", 5),
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(report.read_text())
    assert [run["guidance_weight"] for run in record["runs"]] == [0.0, 0.1]
    assert (record["num_samples"], record["execution_horizon"]) == (2, 5)
    for run in record["runs"]:
        assert run["critic"] == "task1"
        assert (run["task"], run["episodes"], run["first_seed"], run["last_seed"]) == (1, 2, 9, 10)
        assert run["success_rate"] == run["successes"] / 2
        assert len(run["ci95"]) == 2
    assert "95 % interval" in done.stdout


def test_evaluate_runs_every_task_of_the_bundle_unless_one_is_named(tiny_bundle, tmp_path, monkeypatch):
    pytest.importorskip("ogbench")
    from qgf_ros.evaluation.results import Episode
    from qgf_sim.rollouts import evaluate as evaluation

    asked = []

    def run(plan, progress, cluster):
        assert cluster is None, "nobody asked for one"
        asked.append((plan.task, plan.options.critic, plan.guidance_weights))
        return {weight: [Episode(weight, plan.options.seed, True, 7)] for weight in plan.guidance_weights}

    monkeypatch.setattr(evaluation, "evaluate", run)
    report = tmp_path / "report.json"
    assert main(["evaluate", str(tiny_bundle), "--episodes", "1", "--json", str(report)]) == 0
    assert asked == [(1, "task1", (0.0, 0.1)), (2, "task2", (0.0, 0.1))]
    written = json.loads(report.read_text())
    assert written["bundle"] == tiny_bundle.name
    assert "velocity.onnx" in written["files"]
    runs = written["runs"]
    assert [(run["task"], run["critic"], run["guidance_weight"]) for run in runs] == [
        (1, "task1", 0.0),
        (1, "task1", 0.1),
        (2, "task2", 0.0),
        (2, "task2", 0.1),
    ]
    assert main(["evaluate", str(tiny_bundle), "--tasks", "2,3", "--episodes", "1"]) == 2
    assert len(asked) == 2, "nothing runs before every task is known to be possible"


def test_an_interrupted_evaluation_keeps_the_tasks_it_has_finished(tiny_bundle, tmp_path, monkeypatch):
    pytest.importorskip("ogbench")
    from qgf_ros.evaluation.results import Episode
    from qgf_sim.rollouts import evaluate as evaluation

    def run(plan, progress, cluster):
        if plan.task == 2:
            raise KeyboardInterrupt
        return {weight: [Episode(weight, plan.options.seed, True, 7)] for weight in plan.guidance_weights}

    monkeypatch.setattr(evaluation, "evaluate", run)
    report = tmp_path / "report.json"
    assert main(["evaluate", str(tiny_bundle), "--guidance-weights", "0.1", "--json", str(report)]) == 130
    assert [run["task"] for run in json.loads(report.read_text())["runs"]] == [1]


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("evaluate", {"num_samples": 4}),
        ("evaluate", {"num_samples": 4, "blend_steps": 5, "seam": "linear"}),
        ("demo", {"num_samples": 4}),
        ("demo", {"max_guidance_deviation": 0.3}),
        ("render", {"num_samples": 4}),
    ],
)
def test_a_weight_found_with_other_settings_than_those_given_is_refused(command, found, tiny_bundle, tmp_path, capsys):
    pytest.importorskip("ogbench")
    if command == "demo":
        pytest.importorskip("rclpy")
    from qgf_ros.bundle.store import load_manifest, update_manifest

    bundle = shutil.copytree(tiny_bundle, tmp_path / "tuned")
    manifest = load_manifest(bundle)
    card = manifest.critics["task2"].model_copy(update={"recommended_settings": found})
    update_manifest(bundle, manifest.model_copy(update={"critics": {**manifest.critics, "task2": card}}))
    arguments = ["--bundle", str(bundle)] if command == "demo" else [str(bundle)]
    other = {"num_samples": 2, "max_guidance_deviation": 0.5}
    ((name, value),) = ((name, value) for name, value in other.items() if name in found)
    assert main([command, *arguments, "--task", "2", f"--{name.replace('_', '-')}", str(value)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert (
        f"the recommended guidance_weight was found with {name} {found[name]}; set that too, or give a weight" in told
    )


def test_evaluate_runs_each_task_as_it_is_recommended(tiny_bundle, tmp_path, monkeypatch, capsys):
    pytest.importorskip("ogbench")
    from qgf_ros.bundle.store import load_manifest, update_manifest
    from qgf_ros.evaluation.results import Episode
    from qgf_sim.rollouts import evaluate as evaluation

    bundle = shutil.copytree(tiny_bundle, tmp_path / "tuned")
    manifest = load_manifest(bundle)
    recommended = {"task1": (0.1, {"num_samples": 16}), "task2": (0.0, {"num_samples": 32})}
    cards = {
        name: manifest.critics[name].model_copy(update={"recommended_weight": weight, "recommended_settings": settings})
        for name, (weight, settings) in recommended.items()
    }
    update_manifest(bundle, manifest.model_copy(update={"critics": cards}))
    asked = []

    def run(plan, progress, cluster):
        weights = plan.guidance_weights
        asked.extend((plan.task, w, plan.options_at(load_manifest(bundle), w).num_samples) for w in weights)
        return {weight: [Episode(weight, plan.options.seed, True, 7)] for weight in weights}

    monkeypatch.setattr(evaluation, "evaluate", run)
    report = tmp_path / "report.json"
    assert main(["evaluate", str(bundle), "--episodes", "1", "--json", str(report)]) == 0
    assert asked == [(1, 0.0, 1), (1, 0.1, 16), (2, 0.0, 1), (2, 0.0, 32)]
    runs = json.loads(report.read_text())["runs"]
    found = [(run["task"], run.get("settings", {}).get("num_samples")) for run in runs]
    assert found == [(1, 1), (1, 16), (2, None), (2, 32)]
    told = capsys.readouterr().out
    assert "task 1: weight 0.1 is recommended with num_samples 16" in told
    assert "weight 0.1 with num_samples 16" in told, "below the table"
    asked.clear()
    assert main(["evaluate", str(bundle), "--episodes", "1", "--guidance-weights", "0.1"]) == 0
    assert asked == [(1, 0.1, 1), (2, 0.1, 1)]


def test_train_options_default_to_the_trainer_s_own():
    pytest.importorskip("torch")

    from qgf_ros.learning.algorithms.catalogue import ALGORITHMS, DEFAULT_ALGORITHM, configured
    from qgf_ros.learning.trainer import TrainingConfig

    options = inspect.signature(COMMANDS["train"]).parameters
    defaults = {field.name: options[field.name].default for field in fields(TrainingConfig)}
    assert TrainingConfig.from_dict(defaults) == TrainingConfig()
    assert options["algorithm"].default == DEFAULT_ALGORITHM
    given = {}

    def train(*, options: Annotated[dict, algorithm_arguments()]) -> None:
        given.update(options)

    tyro.cli(grouped(train), args=[], config=(tyro.conf.OmitArgPrefixes,))
    assert given == {}
    for name, kind in ALGORITHMS.items():
        assert configured(name, given) == kind.config_class()


def test_train_takes_the_options_of_every_algorithm_in_its_own_words(capsys):
    pytest.importorskip("torch")
    from qgf_ros.learning.algorithms.catalogue import ALGORITHMS

    assert {name: kind.config_class for name, kind in ALGORITHMS.items()} == OPTIONS
    said = {}
    for kind in OPTIONS.values():
        for row in fields(kind):
            hint = get_type_hints(kind)[row.name]
            assert said.setdefault(row.name, (row.metadata["text"], hint)) == (row.metadata["text"], hint)
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    listed = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    for name, kind in OPTIONS.items():
        assert re.search(rf"--algorithm [^()]*\b{name}\b", listed)
        for row in fields(kind):
            assert re.search(rf"--{row.name.replace('_', '-')}[ ,]", listed)


def write_dataset(path, rows=80, **extras):
    random = np.random.default_rng(1)
    terminals = np.zeros(rows, bool)
    terminals[[rows // 2 - 1, rows - 1]] = True
    observations = random.standard_normal((rows, 3)).astype(np.float32)
    np.savez(path, observations=observations, actions=np.tanh(observations[:, :2]), terminals=terminals, **extras)


def test_a_dataset_of_any_origin_becomes_a_bundle(tmp_path, capsys):
    pytest.importorskip("torch")
    from qgf_ros.bundle.store import load_manifest

    rewards = -np.ones(80, np.float32)
    write_dataset(tmp_path / "robot.npz", rewards=rewards, masks=np.ones(80, np.float32))
    write_dataset(tmp_path / "robot-val.npz", rewards=rewards, masks=np.ones(80, np.float32))
    train = ("train", "--dataset", tmp_path / "robot.npz", "--out", tmp_path / "run", "--smoke", "--threads", 1)
    assert main([*map(str, train), "--critic", "reach", "--control-rate", "10", "--device", "cpu"]) == 0
    assert "validation" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "robot")]) == 0
    manifest = load_manifest(tmp_path / "robot")
    assert (manifest.name, manifest.control_rate, list(manifest.critics)) == ("robot", 10.0, ["reach"])
    assert manifest.training["dataset"]["transitions"] == 78


def test_train_without_rewards_or_environment_says_what_to_give(tmp_path, capsys):
    pytest.importorskip("torch")
    write_dataset(tmp_path / "bare.npz")
    assert main(["train", "--dataset", str(tmp_path / "bare.npz"), "--out", str(tmp_path / "run"), "--smoke"]) == 2
    assert "give --env" in capsys.readouterr().err


@pytest.mark.slow
def test_generate_train_and_export_in_three_commands(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("ogbench")
    from qgf_ros.bundle.store import load_manifest

    data, run, bundle = tmp_path / "play.npz", tmp_path / "run", tmp_path / "cube"
    for arguments in (
        ("generate", "cube-single", "--episodes", 1, "--out", data),
        ("train", "--dataset", data, "--env", "cube-single", "--tasks", "2,4", "--out", run, "--smoke", "--horizon", 5),
        ("export", run, "--out", bundle, "--description", "a test"),
        ("evaluate", bundle, "--task", 4, "--episodes", 1, "--guidance-weights", "0", "--workers", 1),
    ):
        done = qgf(*arguments)
        assert done.returncode == 0, done.stderr
    manifest = load_manifest(bundle)
    assert manifest.environment == "cube-single"
    assert {name: card.task_id for name, card in manifest.critics.items()} == {"task2": 2, "task4": 4}
    assert manifest.horizon == 5
    assert max(manifest.parity.values()) < 1e-4


def test_ctrl_c_during_training_saves_a_checkpoint_first(tmp_path):
    pytest.importorskip("torch")
    ones = np.ones(80, np.float32)
    write_dataset(tmp_path / "d.npz", rewards=-ones, masks=ones)
    write_dataset(tmp_path / "d-val.npz", rewards=-ones, masks=ones)
    command = [sys.executable, "-m", "qgf_ros.cli", "train", "--dataset", tmp_path / "d.npz", "--out", tmp_path / "run"]
    command += ["--updates", "1000000", "--hidden", "8,8", "--batch-size", "8", "--threads", "1", "--save-every", "50"]
    process = subprocess.Popen(
        [*map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "run").glob("checkpoint-*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in error
    saved = list((tmp_path / "run").glob("checkpoint-*.safetensors"))
    assert saved
    assert str(max(saved)) in out


def test_setup_installs_the_command():
    assert "qgf = qgf_ros.cli:main" in (ROOT / "setup.py").read_text()
