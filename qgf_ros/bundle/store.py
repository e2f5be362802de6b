"""Bundles on disk: written in one move, checked file by file when read."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from qgf_ros.bundle.manifest import FileRecord, Manifest
from qgf_ros.errors import BundleError

MANIFEST_NAME = "manifest.json"


def critic_file(critic: str) -> str:
    """Return the path, inside a bundle, of a critic's primitive."""
    return f"critics/{critic}/q_grad.onnx"


def load_manifest(bundle: Path) -> Manifest:
    """Read a bundle's manifest and check every file it lists.

    Args:
        bundle: Folder of the bundle.

    Raises:
        BundleError: The manifest or a file is missing, damaged, or of another schema version.
    """
    path = bundle / MANIFEST_NAME
    if not path.is_file():
        raise BundleError(
            f"{bundle} is not a bundle, it has no {MANIFEST_NAME}; give the folder that 'qgf export' wrote"
        )
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the manifest"
        raise BundleError(f"{path}: {where}: {first['msg']}; export the bundle again or restore the file") from error
    expected = {"velocity.onnx", "velocity_vjp.onnx", *(critic_file(name) for name in manifest.critics)}
    unlisted = sorted(expected - manifest.files.keys())
    if unlisted:
        raise BundleError(f"{path} does not list {', '.join(unlisted)}; export the bundle again")
    for name, record in manifest.files.items():
        _check_file(bundle / name, record)
    return manifest


def _check_file(path: Path, record: FileRecord) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error.strerror}); export the bundle again or restore the file"
        ) from error
    if hashlib.sha256(content).hexdigest() != record.sha256:
        raise BundleError(f"{path}: sha256 does not match the manifest; export the bundle again or restore the file")


def file_record(content: bytes) -> FileRecord:
    """Return the manifest's record of a file's content."""
    return FileRecord(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def write_bundle(bundle: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
    """Write a bundle, replacing one that is there, in one move.

    Args:
        bundle: Folder to write.
        manifest: Its file records are filled in here.
        files: Content by POSIX path relative to the folder.

    Returns:
        The manifest as written.

    Raises:
        BundleError: Something else than a bundle is in the way, or the folder cannot be written.
    """
    if bundle.exists() and not (bundle / MANIFEST_NAME).is_file():
        raise BundleError(f"{bundle} exists and is not a bundle; choose another --out")
    manifest = manifest.model_copy(update={"files": {name: file_record(content) for name, content in files.items()}})
    try:
        bundle.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{bundle.name}-", dir=bundle.parent))
    except OSError as error:
        raise BundleError(f"{bundle} cannot be written ({error.strerror}); choose another --out") from error
    try:
        for name, content in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        _write_manifest(temporary, manifest)
        temporary.chmod(0o755)
        old = bundle.with_name(f".{bundle.name}-old-{os.getpid()}")
        if bundle.exists():
            os.replace(bundle, old)
        os.replace(temporary, bundle)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def update_manifest(bundle: Path, manifest: Manifest) -> None:
    """Replace the manifest of a bundle in one move; the other files stay."""
    _write_manifest(bundle, manifest)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    temporary = folder / f".{MANIFEST_NAME}.{os.getpid()}"
    temporary.write_text(manifest.model_dump_json(indent=2, exclude_defaults=False) + "\n", encoding="utf-8")
    os.replace(temporary, folder / MANIFEST_NAME)
