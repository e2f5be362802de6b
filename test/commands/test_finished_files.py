"""No command replaces what is finished, or begins work whose result it could not write: one sentence before the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from qgf_ros.bundle.store import load_manifest, read_bundle, write_bundle
from qgf_ros.cli import main

#: Commands that write a file or a bundle, without their last word, and how they call it. What they would work on is not
#: there, where it is looked at later.
FILES = {
    "generate": ["generate", "cube-single", "--out"],
    "dataset": ["dataset", "from-bag", "nowhere.mcap", "--bundle", "BUNDLE", "--out"],
    "contract template": ["contract", "template", "--bundle", "BUNDLE", "--out"],
    "evaluate": ["evaluate", "BUNDLE", "--tasks", "2", "--guidance-weights", "0", "--json"],
    "demo": ["demo", "--bundle", "BUNDLE", "--guidance-weights", "0", "--json"],
    "replay": ["replay", "nowhere.mcap", "--bundle", "BUNDLE", "--json"],
    "render": ["render", "BUNDLE", "--guidance-weights", "0", "--out"],
    "render sheet": ["render", "BUNDLE", "--guidance-weights", "0", "--sheet"],
}
BUNDLES = {
    "export": ["export", "nowhere", "--out"],
    "import-checkpoint": ["import-checkpoint", "nowhere.pkl", "--env", "cube-single", "--out"],
}
#: Commands that go on where they were, or measure again: what they wrote before is theirs.
FOLDERS = {
    "train": ["train", "--dataset", "nowhere.npz", "--out"],
    "analyze": ["analyze", "compute", "BUNDLE", "--out"],
    "benchmark tick": ["benchmark", "tick", "BUNDLE", "--out"],
}


def run(words: list[str], bundle: Path, out: Path, *more: str) -> int:
    return main([*(str(bundle) if word == "BUNDLE" else word for word in words), str(out), *more])


@pytest.mark.parametrize("command", FILES)
def test_a_file_that_is_there_is_not_replaced(
    tiny_bundle: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"finished{ {'--sheet': '.png', '--json': '.json'}.get(FILES[command][-1], '.npz') }"
    out.write_text("years of work")
    assert run(FILES[command], tiny_bundle, out) == 2
    option = FILES[command][-1]
    assert capsys.readouterr().err == f"qgf: {out} exists; give --force to replace it, or choose another {option}\n"
    assert out.read_text() == "years of work"
    assert list(tmp_path.iterdir()) == [out]


def test_a_validation_set_that_is_there_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data-val.npz").write_text("years of work")
    assert main(["generate", "cube-single", "--out", str(tmp_path / "data.npz")]) == 2
    assert "data-val.npz exists; give --force" in capsys.readouterr().err


@pytest.mark.parametrize("command", BUNDLES)
def test_a_bundle_that_is_there_is_not_replaced(
    tiny_bundle: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "finished"
    write_bundle(out, *read_bundle(tiny_bundle))
    before = load_manifest(out)
    assert run(BUNDLES[command], tiny_bundle, out) == 2
    assert capsys.readouterr().err == f"qgf: {out} exists; give --force to replace it, or choose another --out\n"
    assert run(BUNDLES[command], tiny_bundle, out, "--force") == 2
    assert "nowhere" in capsys.readouterr().err, "with --force it goes on to what it is to work on"
    assert load_manifest(out) == before


@pytest.mark.parametrize("command", BUNDLES)
def test_a_folder_that_is_no_bundle_is_not_replaced_by_force_either(
    tiny_bundle: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "draft.txt").write_text("years of work")
    assert run(BUNDLES[command], tiny_bundle, tmp_path / "thesis", "--force") == 2
    assert "thesis exists and is not a bundle" in capsys.readouterr().err
    assert (tmp_path / "thesis" / "draft.txt").read_text() == "years of work"


@pytest.mark.parametrize("command", BUNDLES)
@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("v1.2", "'v1_2' would do"),
        ("my policy", "'my_policy' would do"),
        ("2026-11", "choose such a name"),
        ("x" * 65, f"'{'x' * 64}' would do"),
        ("größe", "'gr_e' would do"),
        ("..", "choose such a name"),
    ],
)
def test_a_name_that_no_bundle_can_have_is_one_sentence_before_the_work(
    tmp_path: Path, command: str, name: str, better: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(BUNDLES[command], tmp_path, tmp_path / name) == 2
    error = capsys.readouterr().err
    assert "its last part names the bundle: 1 to 64 letters, digits, _ and -, of which the first is a letter" in error
    assert better in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [*FILES, *BUNDLES, *FOLDERS])
def test_a_place_that_cannot_be_made_is_one_sentence_before_the_work(
    tiny_bundle: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {**FILES, **BUNDLES, **FOLDERS}[command]
    (tmp_path / "file").touch()
    ending = {"--sheet": ".png", "--json": ".json"}.get(words[-1], ".npz" if command in FILES else "")
    ending = ".gif" if command == "render" else ending
    assert run(words, tiny_bundle, tmp_path / "file" / "deeper" / f"out{ending}") == 2
    error = capsys.readouterr().err
    assert f"out{ending} cannot be written (Not a directory); choose another {words[-1]}" in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_force_replaces_a_robot_contract(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "robot.yaml"
    out.write_text("edited")
    assert run(FILES["contract template"], tiny_bundle, out, "--force") == 0
    assert "fields:" in out.read_text()
