"""What was given for a data set: a file that may be one, or something else that is said by name, and what to do with it."""

from __future__ import annotations

from pathlib import Path

from qgf_ros.errors import DatasetError

_SAVE = "save its observations, actions and terminals with numpy.savez, see docs/data.md"
_NOT_YET = f"which is not read yet; {_SAVE}"
_FROM_BAG = "make a data set of it with 'qgf dataset from-bag'"
_NEVER = f"which is never read, because reading it would run what is in it; {_SAVE}"

#: What is in a folder, and what that says of it.
_FOLDERS = {
    "meta/info.json": f"a LeRobot data set (meta/info.json), {_NOT_YET}",
    ".zgroup": f"a Zarr store, {_NOT_YET}",
    ".zarray": f"a Zarr store, {_NOT_YET}",
    "zarr.json": f"a Zarr store, {_NOT_YET}",
    "data/main_data.hdf5": f"a Minari data set (data/main_data.hdf5), {_NOT_YET}",
    "dataset_info.json": f"a data set of TFDS or Hugging Face (dataset_info.json), {_NOT_YET}",
    "metadata.yaml": "a folder of rosbag2, not a data set; give its MCAP files to 'qgf dataset from-bag'",
    "manifest.json": "a bundle, which holds no data; give the data set it was trained on, FILE.npz",
}
#: How a file begins, and what that says of it.
_BEGINNINGS = {
    b"PAR1": f"a Parquet file, such as LeRobot's tables, {_NOT_YET}",
    b"ARROW1": f"an Arrow file, {_NOT_YET}",
    b"\x89HDF\r\n\x1a\n": f"an HDF5 file, such as robomimic, D4RL and Minari write, {_NOT_YET}",
    b"\x89MCAP0\r\n": f"an MCAP recording, not a data set; {_FROM_BAG}",
    b"SQLite format 3\x00": f"a SQLite file, such as rosbag2 writes; convert it to MCAP with 'ros2 bag convert', then {_FROM_BAG}",
    b"#ROSBAG": f"a bag of ROS 1, which is not read; {_SAVE}",
    b"\x93NUMPY": f"a single array (.npy), not a data set of several; {_SAVE}",
    b"\x1f\x8b": "packed with gzip; unpack it first",
    b"\x28\xb5\x2f\xfd": "packed with zstandard; unpack it first",
    **{bytes([0x80, protocol]): f"a pickle, {_NEVER}" for protocol in range(2, 6)},
}
#: Names of files that begin like others, or anyhow.
_SUFFIXES = {
    **dict.fromkeys((".pkl", ".pickle"), f"a pickle, {_NEVER}"),
    **dict.fromkeys((".pt", ".pth", ".ckpt"), f"a file of torch.save, {_NEVER}"),
    **dict.fromkeys((".csv", ".tsv", ".json", ".jsonl"), f"a text file, {_NOT_YET}"),
    **dict.fromkeys((".tfrecord", ".rlds"), f"a TFRecord file, {_NOT_YET}"),
    ".safetensors": "a file of weights (safetensors), not a data set; give FILE.npz",
}
#: HDF5 may begin after a block of its user's.
_HDF5, _HDF5_OFFSETS = b"\x89HDF\r\n\x1a\n", (512, 1024, 2048)


def check_kind(path: Path) -> None:
    """Check that a path leads to a file that may be an ``.npz`` archive.

    Raises:
        DatasetError: There is nothing, or something else, which is named.
    """
    try:
        if path.is_dir():
            raise DatasetError(f"{path} is {_folder(path)}")
        if not path.exists():
            raise DatasetError(
                f"{path} does not exist; make it with 'qgf generate' or give the path of a data set, FILE.npz"
            )
        if not path.is_file():  # a pipe would wait, a device has no end
            raise DatasetError(f"{path} is no regular file; give the path of a data set, FILE.npz")
        with path.open("rb") as file:
            beginning = file.read(_HDF5_OFFSETS[-1] + len(_HDF5))
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read ({error.strerror}); give the path of a data set, FILE.npz"
        ) from error
    for mark, kind in _BEGINNINGS.items():
        if beginning.startswith(mark):
            raise DatasetError(f"{path} is {kind}")
    if any(beginning[offset:].startswith(_HDF5) for offset in _HDF5_OFFSETS):
        raise DatasetError(f"{path} is {_BEGINNINGS[_HDF5]}")
    if path.suffix.lower() in _SUFFIXES:
        raise DatasetError(f"{path} is {_SUFFIXES[path.suffix.lower()]}")


def _folder(path: Path) -> str:
    for name, kind in _FOLDERS.items():
        if (path / name).exists():
            return kind
    return "a folder; give a file, FILE.npz"
