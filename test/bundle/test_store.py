"""Bundles on disk: whole, checked, replaced in one move."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import file_record, load_manifest, read_bundle, update_manifest, write_bundle
from qgf_ros.errors import BundleError


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))


def test_a_written_bundle_loads_as_it_was(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    assert manifest.name == "tiny"
    assert manifest.observation_size == 28
    assert manifest.chunk_size == 25
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_every_file_of_a_bundle_is_listed(bundle: Path) -> None:
    files = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()} - {"manifest.json"}
    assert files == set(load_manifest(bundle).files)


def test_a_bundle_read_whole_has_the_content_of_every_file(bundle: Path) -> None:
    manifest, files = read_bundle(bundle)
    assert manifest == load_manifest(bundle)
    assert files == {name: (bundle / name).read_bytes() for name in manifest.files}


@pytest.mark.parametrize("name", ["velocity.onnx", "velocity_vjp.onnx", "critics/task2/q_grad.onnx"])
def test_a_flipped_byte_is_reported_with_the_file(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}: sha256 does not match"):
        load_manifest(bundle)


def test_a_missing_file_is_reported_with_its_name(bundle: Path) -> None:
    (bundle / "velocity.onnx").unlink()
    with pytest.raises(BundleError, match="velocity.onnx cannot be read"):
        load_manifest(bundle)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle"):
        load_manifest(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema_version"),
        ({"horizon": 0}, "horizon"),
        ({"execution_horizon": 9}, "execution_horizon 9 exceeds horizon 5"),
        ({"surprise": 1}, "surprise"),
        ({"files": {"../outside": {"sha256": "0" * 64, "size": 1}}}, "outside the bundle"),
        ({"files": {}}, "does not list"),
    ],
)
def test_a_bad_manifest_says_what_is_wrong(bundle: Path, change: dict[str, object], message: str) -> None:
    path = bundle / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BundleError, match=message):
        load_manifest(bundle)


def test_a_truncated_manifest_is_an_error_of_one_sentence(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(BundleError) as caught:
        load_manifest(bundle)
    assert "\n" not in str(caught.value)


def test_a_bundle_replaces_one_that_is_there_and_leaves_nothing_else(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    files = {name: (bundle / name).read_bytes() for name in manifest.files}
    write_bundle(bundle, manifest.model_copy(update={"description": "second"}), files)
    assert load_manifest(bundle).description == "second"
    assert [p.name for p in bundle.parent.iterdir()] == ["tiny"]


def test_a_folder_that_is_no_bundle_is_never_overwritten(bundle: Path, tmp_path: Path) -> None:
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "draft.txt").write_text("years of work")
    with pytest.raises(BundleError, match="is not a bundle"):
        write_bundle(precious, load_manifest(bundle), {})
    assert (precious / "draft.txt").read_text() == "years of work"


def test_updating_the_manifest_keeps_the_files(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    update_manifest(bundle, manifest.model_copy(update={"description": "tuned"}))
    assert load_manifest(bundle).description == "tuned"


def test_updating_the_manifest_of_a_bundle_of_links_keeps_it_whole(bundle: Path, tmp_path: Path) -> None:
    installed = tmp_path / "install" / "tiny"
    for name in ("manifest.json", *load_manifest(bundle).files):
        (installed / name).parent.mkdir(parents=True, exist_ok=True)
        (installed / name).symlink_to(bundle / name)
    update_manifest(installed, load_manifest(installed).model_copy(update={"description": "tuned"}))
    assert load_manifest(installed).description == load_manifest(bundle).description == "tuned"


def with_record(bundle: Path, name: str, content: bytes | None = None, size: int | None = None) -> None:
    """Record a file as it is now, or with this content, or with a size of one's own."""
    if content is not None:
        (bundle / name).write_bytes(content)
    manifest = Manifest.model_validate_json((bundle / "manifest.json").read_text())
    record = file_record((bundle / name).read_bytes())
    record = record if size is None else record.model_copy(update={"size": size})
    update_manifest(bundle, manifest.model_copy(update={"files": {**manifest.files, name: record}}))


@pytest.mark.parametrize("name", ["velocity.onnx", "velocity_vjp.onnx", "critics/task1/q_grad.onnx"])
def test_a_graph_of_another_primitive_is_refused_though_its_record_fits(bundle: Path, name: str) -> None:
    other = "critics/task2/q_grad.onnx" if name.startswith("velocity") else "velocity.onnx"
    with_record(bundle, name, (bundle / other).read_bytes())
    with pytest.raises(BundleError, match=rf"{name}: .*; export the bundle again$"):
        read_bundle(bundle)


def test_a_file_of_another_size_than_recorded_is_refused_though_its_digest_fits(bundle: Path) -> None:
    size = (bundle / "velocity.onnx").stat().st_size
    with_record(bundle, "velocity.onnx", size=size + 1)
    with pytest.raises(BundleError, match=f"velocity.onnx has {size} bytes, the manifest says {size + 1}; export"):
        load_manifest(bundle)
    with_record(bundle, "velocity.onnx", size=size - 1)
    with pytest.raises(BundleError, match=f"velocity.onnx has {size} bytes, expected at most {size - 1}; export"):
        load_manifest(bundle)
    with_record(bundle, "velocity.onnx", size=size)
    load_manifest(bundle)


def test_a_written_manifest_spells_out_what_is_at_its_default(bundle: Path) -> None:
    """Another version may have other defaults."""
    written = json.loads((bundle / "manifest.json").read_text())
    assert (written["denoising_steps"], written["licence"], written["precision_tolerance"]) == (10, "Apache-2.0", 0.05)
    update_manifest(bundle, load_manifest(bundle))
    assert json.loads((bundle / "manifest.json").read_text()) == written
