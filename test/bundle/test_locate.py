"""Finding bundles by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from qgf_ros.bundle.locate import locate_bundle, locate_robot
from qgf_ros.errors import BundleError, ContractError


def make_bundle(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and no other install prefix."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    return tmp_path


def test_path_is_returned_absolute(workspace: Path) -> None:
    bundle = make_bundle(workspace / "anywhere" / "mine")
    assert locate_bundle("anywhere/mine") == bundle
    assert locate_bundle(bundle) == bundle


@pytest.mark.parametrize("name", ["mine", "models/mine"])
def test_name_is_found_below_models_of_the_working_directory(workspace: Path, name: str) -> None:
    bundle = make_bundle(workspace / "models" / "mine")
    assert locate_bundle(name) == bundle


@pytest.mark.parametrize("name", ["installed", "models/installed"])
def test_name_is_found_in_the_share_folder_of_a_sourced_workspace(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bundle = make_bundle(workspace / "install" / "share" / "qgf_ros" / "models" / "installed")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{workspace / 'other'}:{workspace / 'install'}")
    assert locate_bundle(name) == bundle


def test_working_directory_comes_before_installed_bundles(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bundle(workspace / "install" / "share" / "qgf_ros" / "models" / "mine")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(workspace / "install"))
    own = make_bundle(workspace / "models" / "mine")
    assert locate_bundle("mine") == own


def test_missing_bundle_names_the_ones_there_are(workspace: Path) -> None:
    make_bundle(workspace / "models" / "mine")
    with pytest.raises(BundleError, match=r"'nothing' was given.*\bmine\b"):
        locate_bundle("nothing")


def test_folder_without_manifest_is_no_bundle(workspace: Path) -> None:
    (workspace / "models" / "empty").mkdir(parents=True)
    with pytest.raises(BundleError, match="empty"):
        locate_bundle("empty")


def make_robot(folder: Path) -> Path:
    (folder / "config" / "robots").mkdir(parents=True)
    path = folder / "config" / "robots" / "mine.yaml"
    path.write_text("{}")
    return path


def test_a_robot_is_found_by_path_by_name_nearby_and_in_the_share_folder_of_a_sourced_workspace(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(workspace / "install"))
    installed = make_robot(workspace / "install" / "share" / "qgf_ros")
    assert locate_robot("mine") == installed
    own = make_robot(workspace)
    assert locate_robot("mine") == own
    assert locate_robot("config/robots/mine.yaml") == own
    assert locate_robot(str(installed)) == installed


def test_a_missing_robot_names_the_ones_there_are(workspace: Path) -> None:
    make_robot(workspace)
    with pytest.raises(ContractError, match=r"'nothing' was given.*\bmine\b"):
        locate_robot("nothing")


def test_the_home_of_nobody_is_a_folder_that_is_not_there(workspace: Path) -> None:
    with pytest.raises(BundleError, match="bundle '~nobody-of-this-name/mine' was given, but no folder"):
        locate_bundle("~nobody-of-this-name/mine")
    with pytest.raises(ContractError, match="robot '~nobody-of-this-name/arm.yaml' was given, but no profile"):
        locate_robot("~nobody-of-this-name/arm.yaml")
