"""What is given for a data set and is none is called by its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qgf_ros.errors import DatasetError
from qgf_ros.learning.data.dataset import load_dataset

HDF5 = b"\x89HDF\r\n\x1a\n"


def refusal(path: Path) -> str:
    with pytest.raises(DatasetError) as refused:
        load_dataset(path)
    sentence = str(refused.value)
    assert sentence.startswith(str(path))
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("file-000.parquet", b"PAR1...", "a Parquet file, such as LeRobot's tables, which is not read yet"),
        ("low_dim.hdf5", HDF5, "an HDF5 file, such as robomimic, D4RL and Minari write, which is not read yet"),
        ("renamed.npz", HDF5, "an HDF5 file"),
        ("matlab.mat", bytes(512) + HDF5, "an HDF5 file"),
        (
            "run.mcap",
            b"\x89MCAP0\r\n",
            "an MCAP recording, not a data set; make a data set of it with 'qgf dataset from-bag'",
        ),
        ("run.db3", b"SQLite format 3\x00", "convert it to MCAP with 'ros2 bag convert'"),
        ("old.bag", b"#ROSBAG V2.0\n", "a bag of ROS 1"),
        ("data.arrow", b"ARROW1\x00\x00", "an Arrow file, which is not read yet"),
        ("one.npy", b"\x93NUMPY\x01\x00", "a single array (.npy), not a data set of several"),
        ("d.npz.gz", b"\x1f\x8b\x08", "packed with gzip; unpack it first"),
        ("run.mcap.zstd", b"\x28\xb5\x2f\xfd", "packed with zstandard; unpack it first"),
        ("params", b"\x80\x04\x95", "a pickle, which is never read, because reading it would run what is in it"),
        ("old.pkl", b"(dp0\n.", "a pickle"),
        ("weights.pt", b"PK\x03\x04", "a file of torch.save"),
        ("episodes.jsonl", b"{}", "a text file, which is not read yet"),
        ("train.tfrecord", b"\x00", "a TFRecord file, which is not read yet"),
        ("w.safetensors", b"\x08", "a file of weights (safetensors), not a data set"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert says in refusal(tmp_path / name)


@pytest.mark.parametrize(
    ("inside", "says"),
    [
        ("meta/info.json", "a LeRobot data set (meta/info.json), which is not read yet; save its observations"),
        (".zgroup", "a Zarr store, which is not read yet"),
        ("zarr.json", "a Zarr store, which is not read yet"),
        ("data/main_data.hdf5", "a Minari data set (data/main_data.hdf5), which is not read yet"),
        ("dataset_info.json", "a data set of TFDS or Hugging Face (dataset_info.json), which is not read yet"),
        ("metadata.yaml", "a folder of rosbag2, not a data set; give its MCAP files to 'qgf dataset from-bag'"),
        ("manifest.json", "a bundle, which holds no data"),
        ("cube-single-play.npz", "a folder; give a file, FILE.npz"),
    ],
)
def test_a_folder_is_named(tmp_path: Path, inside: str, says: str) -> None:
    (tmp_path / inside).parent.mkdir(exist_ok=True)
    (tmp_path / inside).touch()
    assert says in refusal(tmp_path)


def test_a_path_that_leads_nowhere_and_one_without_an_end_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "no.npz")
    assert "File name too long" in refusal(tmp_path / ("a" * 300))
    (tmp_path / "file").touch()
    assert "does not exist" in refusal(tmp_path / "file" / "d.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    assert "is no regular file" in refusal(tmp_path / "pipe.npz")
    assert "is no regular file" in refusal(Path("/dev/zero"))
