"""Bundles on disk: written in one move, checked file by file when read."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from qgf_ros.bundle.cameras import STATE
from qgf_ros.bundle.fields import Name
from qgf_ros.bundle.file_records import FileRecord
from qgf_ros.bundle.graphs import ENCODER_OPERATORS, Signature, check_graph
from qgf_ros.bundle.locate import MANIFEST_NAME, is_bundle
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.own_graphs import own_file
from qgf_ros.bundle.text import check_text, first_complaint, one_line
from qgf_ros.errors import BundleError
from qgf_ros.files.destination import check_destination
from qgf_ros.files.folders import replacing_folder
from qgf_ros.guidance.names import CLASSIFIER_FREE, ROBUST

T = TypeVar("T")

#: Most bytes of a manifest.
MOST_MANIFEST_BYTES = 2**22
_MEND = "export the bundle again or restore the file"
#: How often a bundle that is replaced while it is read is read anew.
_TRIES = 100


def critic_file(critic: str) -> str:
    """Return the path, inside a bundle, of a critic's primitive."""
    return f"critics/{critic}/q_grad.onnx"


def encoder_file(critic: str | None = None) -> str:
    """Return the path, inside a bundle, of the encoder of its policy, or of a critic that has one of its own."""
    return "encoder.onnx" if critic is None else f"critics/{critic}/encoder.onnx"


def reference_picture_file(camera: str) -> str:
    """Return the path, inside a bundle, of a PNG of what the policy saw of a camera in training; it need not be there."""
    return f"pictures/{camera}.png"


def load_manifest(bundle: Path) -> Manifest:
    """Read a bundle's manifest and check every file it lists.

    Args:
        bundle: Folder of the bundle.

    Raises:
        BundleError: The manifest or a file is missing, damaged, of another schema version, or not what a bundle holds.
    """

    def check() -> Manifest:
        folder, manifest = _open(bundle)
        for _ in _files(folder, manifest):
            pass
        return manifest

    return _undisturbed(bundle, check)


def read_bundle(bundle: Path) -> tuple[Manifest, dict[str, bytes]]:
    """Read a bundle whole: what was checked is what is returned, whatever happens to the files meanwhile.

    Args:
        bundle: Folder of the bundle.

    Returns:
        The manifest, and the content of every file it lists, by POSIX path.

    Raises:
        BundleError: As `load_manifest`.
    """

    def read() -> tuple[Manifest, dict[str, bytes]]:
        folder, manifest = _open(bundle)
        return manifest, dict(_files(folder, manifest))

    return _undisturbed(bundle, read)


def _undisturbed(bundle: Path, read: Callable[[], T]) -> T:
    """Return what is read of a bundle; anew, if another has taken its place meanwhile and the two did not fit."""
    for more in reversed(range(_TRIES)):
        before = _identity(bundle)
        try:
            return read()
        except BundleError:
            if not more or _identity(bundle) == before:
                raise
    raise AssertionError("the last try returns or raises")


def _identity(bundle: Path) -> tuple[int, ...]:
    """Return what changes when a manifest is replaced; nothing where there is none."""
    try:
        status = (bundle / MANIFEST_NAME).stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _open(bundle: Path) -> tuple[Path, Manifest]:
    """Return the manifest and the folder it really lies in, which no file of the bundle may leave."""
    path = bundle / MANIFEST_NAME
    if not is_bundle(bundle):
        raise BundleError(
            f"{bundle} is not a bundle, it has no {MANIFEST_NAME}; give the folder that 'qgf export' wrote"
        )
    content = _read(path, MOST_MANIFEST_BYTES)
    try:
        manifest = Manifest.model_validate_json(content)
        check_text(content)
    except ValidationError as error:
        raise BundleError(one_line(f"{path}: {first_complaint(error)}; {_MEND}")) from error
    except ValueError as error:
        raise BundleError(one_line(f"{path}: {error}; {_MEND}")) from error
    unlisted = sorted(_signatures(manifest).keys() - manifest.files.keys())
    if unlisted:
        raise BundleError(f"{path} does not list {', '.join(unlisted)}; export the bundle again")
    return path.resolve().parent, manifest


def _signatures(manifest: Manifest) -> dict[str, Signature]:
    """Return the graphs a bundle must have, and those of its own that it has, by path."""
    s, a = (None, manifest.feature_size), (None, manifest.chunk_size)
    at = {"s": s, "a": a}
    signatures = {
        "velocity.onnx": Signature({**at, "t": (None,)}, {"v": a}),
        "velocity_vjp.onnx": Signature({**at, "t": (None,), "u": a}, {"v": a, "u_dv_da": a}),
    }
    for name, card in manifest.critics.items():
        seen = {"s": (None, manifest.critic_feature_size(name)), "a": a}
        signatures[critic_file(name)] = Signature(seen, {"q": (card.ensemble_size, None), "dq_da": a})
        for estimator, outputs in ((ROBUST, {"q": (1, None), "dq_da": a}), (CLASSIFIER_FREE, {"v": a})):
            if own_file(name, estimator) in manifest.files:
                signatures[own_file(name, estimator)] = Signature({**seen, "t": (None,)}, outputs)
    if manifest.encoding is not None:
        images = {name: (None, *camera.size, 3) for name, camera in manifest.cameras.items()}
        state = {STATE: (None, manifest.observation_size)} if manifest.observation else {}
        for critic in (None, *manifest.encoding.critics):
            size = manifest.feature_size if critic is None else manifest.critic_feature_size(critic)
            signatures[encoder_file(critic)] = Signature(state, {"z": (None, size)}, images, ENCODER_OPERATORS)
    return signatures


def _files(folder: Path, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every file, checked."""
    signatures = _signatures(manifest)
    for name, record in manifest.files.items():
        path = folder / name
        try:
            inside = path.resolve().is_relative_to(folder)
        except (OSError, RuntimeError):  # links in a circle
            inside = False
        if not inside:
            raise BundleError(f"{path} is a link that points outside the bundle; put the file itself there")
        content = _read(path, record.size)
        if len(content) != record.size:
            raise BundleError(f"{path} has {len(content)} bytes, the manifest says {record.size}; {_MEND}")
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise BundleError(f"{path}: sha256 does not match the manifest; {_MEND}")
        if name in signatures:
            try:
                check_graph(content, signatures[name])
            except ValueError as error:
                raise BundleError(one_line(f"{path}: {error}; export the bundle again")) from error
        yield name, content


def _read(path: Path, most: int) -> bytes:
    """Return the content of a file, unless it is longer than `most` bytes or no regular file at all."""
    try:
        # Without O_NONBLOCK a named pipe would wait for somebody to write into it.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"{path} is not a regular file; {_MEND}")
            if status.st_size > most:
                raise BundleError(f"{path} has {status.st_size} bytes, expected at most {most}; {_MEND}")
            return file.read(most)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); {_MEND}") from error


def file_record(content: bytes) -> FileRecord:
    """Return the manifest's record of a file's content."""
    return FileRecord(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def check_bundle_destination(bundle: Path, *, force: bool = False) -> None:
    """Look at where a bundle is to be written before the work that makes it.

    Args:
        bundle: Folder to write; its name becomes the bundle's.
        force: Whether a bundle that is there is to be replaced.

    Raises:
        BundleError: The name is none of a bundle, or something else than a bundle is in the way.
        OutputError: A bundle is there, and `force` was not given; or the place cannot be written.
    """
    name = bundle.name
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        better = re.sub(r"[^A-Za-z0-9_-]+", "_", name).lstrip("_-0123456789")[:64]
        raise BundleError(
            f"--out {one_line(str(bundle))} was given, and its last part names the bundle: 1 to 64 letters, digits, _ and "
            f"-, of which the first is a letter; {f'{better!r} would do' if better else 'choose such a name'}"
        ) from error
    if not is_bundle(bundle) and os.path.lexists(bundle):
        raise _no_bundle(bundle)
    check_destination(bundle, force=force, folder=True)


def _check_is_bundle(folder: Path) -> None:
    if not (folder / MANIFEST_NAME).is_file():
        raise _no_bundle(folder)


def _no_bundle(folder: Path) -> BundleError:
    return BundleError(f"{folder} exists and is not a bundle; choose another --out")


def write_bundle(bundle: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
    """Write a bundle, replacing one that is there, in one move: at any moment there is the old one or the new one.

    Args:
        bundle: Folder to write.
        manifest: Its file records are filled in here.
        files: Content by POSIX path relative to the folder.

    Returns:
        The manifest as written.

    Raises:
        BundleError: Something else than a bundle is in the way, or the folder cannot be written.
    """
    manifest = manifest.model_copy(update={"files": {name: file_record(content) for name, content in files.items()}})
    try:
        with replacing_folder(bundle, _check_is_bundle) as temporary:
            for name, content in files.items():
                path = temporary / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            (temporary / MANIFEST_NAME).write_text(_json(manifest), encoding="utf-8")
    except OSError as error:
        raise BundleError(f"{bundle} cannot be written ({error.strerror}); choose another --out") from error
    return manifest


def update_bundle(bundle: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
    """Replace a bundle in one move, where it really lies; see `write_bundle`."""
    return write_bundle((bundle / MANIFEST_NAME).resolve().parent, manifest, files)


def update_manifest(bundle: Path, manifest: Manifest) -> None:
    """Replace the manifest of a bundle in one move, where it really lies; the other files stay.

    Raises:
        BundleError: It cannot be written.
    """
    folder = (bundle / MANIFEST_NAME).resolve().parent
    temporary = folder / f".{MANIFEST_NAME}.{os.getpid()}"
    try:
        temporary.write_text(_json(manifest), encoding="utf-8")
        os.replace(temporary, folder / MANIFEST_NAME)
    except OSError as error:
        raise BundleError(f"{folder / MANIFEST_NAME} cannot be written ({error.strerror}); it is as it was") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _json(manifest: Manifest) -> str:
    return manifest.model_dump_json(indent=2, exclude_defaults=False) + "\n"
