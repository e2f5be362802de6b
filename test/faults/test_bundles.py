"""Damaged, forged and hostile bundles: refused in one sentence, or sound; never a crash, a hang or another exception.

Damages and garbage are drawn from fixed seeds, so that a failure can be repeated; hypothesis draws its own. How many
are tried stands at each test, and in docs/security.md.
"""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exploration import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from qgf_ros.bundle.file_records import MOST_BYTES
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import MOST_MANIFEST_BYTES, file_record, load_manifest, read_bundle
from qgf_ros.control.run_options import ROWS, RunOptions
from qgf_ros.errors import BundleError, QgfError
from qgf_ros.guidance.names import METHODS, SCHEDULES
from qgf_sim.processes import reserve_domain

SCRIPT = Path(__file__).with_name("load_mutants.py")


def reads_like_one_sentence(text: str) -> bool:
    return 0 < len(text) < 2000 and text.isprintable()


def refusal(bundle: Path) -> str | None:
    """Load a bundle; return the sentence with which it was refused, or None."""
    said = None
    try:
        read_bundle(bundle)
    except BundleError as error:
        said = str(error)
    assert said is None or reads_like_one_sentence(said), said[:1000]
    return said


def rewrite(bundle: Path, change: Mapping[str, Any]) -> None:
    """Change top-level entries of the manifest."""
    path = bundle / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def reseal(bundle: Path) -> None:
    """Make every record of the manifest fit its file, as a forger would."""
    names = json.loads((bundle / "manifest.json").read_text())["files"]
    rewrite(bundle, {"files": {name: file_record((bundle / name).read_bytes()).model_dump() for name in names}})


def files_of(bundle: Path) -> list[str]:
    return sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())


# Accidents: a bit flips, a file ends early


def test_a_flipped_bit_anywhere_is_noticed(bundle: Path) -> None:
    """100 positions in each of the five files."""
    random = np.random.default_rng(0)
    before = load_manifest(bundle)
    for name in files_of(bundle):
        content = (bundle / name).read_bytes()
        for position in random.integers(len(content), size=100):
            damaged = bytearray(content)
            damaged[position] ^= 1 << int(random.integers(8))
            (bundle / name).write_bytes(damaged)
            said = refusal(bundle)
            if name != "manifest.json":
                assert said is not None and f"{name}: sha256 does not match" in said
            elif said is None:
                # No checksum covers the manifest itself: it is a valid one, with the same graphs behind it.
                assert load_manifest(bundle).files == before.files
        (bundle / name).write_bytes(content)
    assert refusal(bundle) is None


def test_a_file_cut_anywhere_is_noticed(bundle: Path) -> None:
    """50 lengths of each of the five files, and none at all."""
    random = np.random.default_rng(1)
    for name in files_of(bundle):
        content = (bundle / name).read_bytes()
        end = len(content.rstrip())  # the line end behind a manifest says nothing
        for length in (0, end - 1, *random.integers(end, size=48)):
            (bundle / name).write_bytes(content[:length])
            assert refusal(bundle) is not None, f"{name} cut to {length} bytes"
        (bundle / name).unlink()
        assert refusal(bundle) is not None
        (bundle / name).write_bytes(content)


def test_what_was_checked_is_what_is_loaded(bundle: Path) -> None:
    """A file replaced after the check changes nothing: the sessions are made of the bytes that were hashed."""
    from qgf_ros.runtime.models import OnnxVelocityField

    _, files = read_bundle(bundle)
    for path in bundle.rglob("*.onnx"):
        path.write_bytes(b"something else")
    s, a, t = (np.zeros(shape, dtype=np.float32) for shape in ((1, 5), (1, 6), (1,)))
    flow = OnnxVelocityField(files, ["CPUExecutionProvider"], 1).given(s)
    assert np.isfinite(flow(a, t)).all()
    assert np.isfinite(flow.vjp(a, t, a)[1]).all()


# Forgeries: the checksums fit


def run_mutants(bundle: Path, first: int, last: int) -> dict[str, int]:
    process = subprocess.run(
        [sys.executable, str(SCRIPT), str(bundle), str(first), str(last)], capture_output=True, text=True
    )
    lines = process.stdout.splitlines()
    assert process.returncode == 0, f"number {lines[-1:]}, exit code {process.returncode}:\n{process.stderr[-3000:]}"
    counts: dict[str, int] = json.loads(lines[-1])
    assert sum(counts.values()) == last - first + 1
    return counts


def test_damaged_graphs_with_fitting_checksums_are_refused_or_run(small_bundle: Path) -> None:
    """60 damages: each a process-wide chance to crash, so in a process of its own with bounded memory and time."""
    assert "refused before ONNX Runtime" in run_mutants(small_bundle, 0, 59)


@pytest.mark.slow
def test_many_damaged_graphs_with_fitting_checksums_are_refused_or_run(small_bundle: Path) -> None:
    """2,000 more."""
    counts = run_mutants(small_bundle, 60, 2059)
    assert {"refused before ONNX Runtime", "refused by ONNX Runtime", "runs"} <= counts.keys()


def test_a_graph_of_another_critic_of_other_sizes_is_refused(bundle: Path) -> None:
    rewrite(bundle, {"horizon": 4})
    said = refusal(bundle)
    assert said is not None and "input a of shape [N, 6] was found, expected [N, 8]" in said


# Files that are not what the manifest says


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../outside",
        "critics/../../outside",
        "./velocity.onnx",
        "critics//x",
        "..\\outside",
        "C:/outside",
        "C:\\outside",
        "\\\\server\\share",
        "velocity.onnx\x00.txt",
        "a\nb",
        "~/secret",
        "file:///etc/passwd",
        "critics/\u2025/x",
        "x" * 300,
        "",
    ],
)
def test_a_path_out_of_the_bundle_is_refused_before_it_is_opened(bundle: Path, path: str) -> None:
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    rewrite(bundle, {"files": {**files, path: {"sha256": "0" * 64, "size": 1}}})
    said = refusal(bundle)
    assert said is not None
    assert "points outside the bundle or is not of letters" in said


def test_two_names_that_differ_in_case_only_are_refused(bundle: Path) -> None:
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    rewrite(bundle, {"files": {**files, "Velocity.ONNX": files["velocity.onnx"]}})
    said = refusal(bundle)
    assert said is not None and "one name, but for the case" in said


@pytest.mark.parametrize("folder", [False, True])
def test_a_link_out_of_the_bundle_is_refused_even_to_the_right_content(bundle: Path, folder: bool) -> None:
    inside = bundle / "critics" if folder else bundle / "velocity.onnx"
    outside = bundle.parent / "outside"
    shutil.move(inside, outside)
    inside.symlink_to(outside)
    said = refusal(bundle)
    assert said is not None and "is a link that points outside the bundle" in said


def test_a_bundle_installed_link_by_link_loads(bundle: Path, tmp_path: Path) -> None:
    """As `colcon build --symlink-install` does it: the manifest and every file are links into one folder."""
    installed = tmp_path / "install" / "small"
    for name in files_of(bundle):
        (installed / name).parent.mkdir(parents=True, exist_ok=True)
        (installed / name).symlink_to(bundle / name)
    assert refusal(installed) is None


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "loop"])
@pytest.mark.parametrize("name", ["velocity.onnx", "manifest.json"])
def test_what_is_no_regular_file_is_refused_without_waiting(bundle: Path, kind: str, name: str) -> None:
    path = bundle / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    assert refusal(bundle) is not None


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Reading what should not be read would raise MemoryError: 256 MiB more than now are allowed."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("little_memory")
class TestSizesAreBoundedBeforeReading:
    def test_a_manifest_of_a_gigabyte(self, bundle: Path) -> None:
        os.truncate(bundle / "manifest.json", 2**30)
        said = refusal(bundle)
        assert said is not None and f"has {2**30} bytes, expected at most {MOST_MANIFEST_BYTES}" in said

    def test_a_sparse_file_longer_than_its_record(self, bundle: Path) -> None:
        os.truncate(bundle / "velocity.onnx", 2**40)
        said = refusal(bundle)
        assert said is not None and f"has {2**40} bytes, expected at most" in said

    @pytest.mark.parametrize("size", [10**18, MOST_BYTES, 10**40])
    def test_a_record_of_more_than_a_bundle_may_have(self, bundle: Path, size: int) -> None:
        files = json.loads((bundle / "manifest.json").read_text())["files"]
        os.truncate(bundle / "velocity.onnx", 2**40)
        files["velocity.onnx"]["size"] = size
        rewrite(bundle, {"files": files})
        assert refusal(bundle) is not None


# Manifests


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy of nested JSON with another value at a path."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(copy[path[0]], path[1:], new)
    return copy


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value of nested JSON."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"name":"small"', '"name":"small","name":"other"', "key 'name' is there twice"),
        ('"updates":1000', '"updates":NaN', "number NaN"),
        ('"updates":1000', '"updates":-Infinity', "number -Infinity"),
        ('"updates":1000', '"updates":1e999', "number 1e999"),
        ('"updates":1000', f'"updates":1{"0" * 400}', "number 1000"),
        ('"updates":1000', f'"updates":1{"0" * 5000}', ""),
        ('"updates":1000', f'"updates":{"[" * 150}{"]" * 150}', None),
        ('"updates":1000', f'"updates":{"[" * 1000}{"]" * 1000}', "recursion limit"),
        ('"updates":1000', f'"updates":{"[" * 10**6}{"]" * 10**6}', "recursion limit"),
        ('"updates":1000', '"updates":"\\u001b]0;owned\\u0007"', "control character"),
        ('"updates":1000', '"\\u001b[2J":1', "control character"),
        ('"mean_length":80.0', '"mean_length":NaN', "mean_length"),
        ('"control_rate":20.0', '"control_rate":1e-300', "control_rate"),
        ('"control_rate":20.0', '"control_rate":1e300', "control_rate"),
        ('"horizon":3', '"horizon":1000000000000', "horizon"),
        ('"max_age":0.2', '"max_age":1e305', "max_age"),
        ('"topic":"joint_states"', '"topic":"joint states"', "topic"),
        ('"topic":"joint_states"', '"topic":"{node}/x"', "topic"),
        ('"schema_version":1', '"schema_version":1,"__class__":"os.system"', "__class__"),
    ],
)
def test_a_manifest_that_readers_take_differently_is_refused(
    bundle: Path, old: str, new: str, message: str | None
) -> None:
    path = bundle / "manifest.json"
    text = json.dumps(json.loads(path.read_text()), separators=(",", ":"))
    assert old in text
    path.write_text(text.replace(old, new, 1))
    said = refusal(bundle)
    assert said is None if message is None else said is not None and message in said


#: Without subnormal numbers: ONNX Runtime switches them off in a thread that has run a model.
FLOATS = st.floats(allow_subnormal=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
EACH = examples(200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@EACH
@given(content=st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_no_manifest(bundle: Path, content: bytes) -> None:
    """200 texts of bytes or JSON."""
    (bundle / "manifest.json").write_bytes(content)
    assert refusal(bundle) is not None


@EACH
@given(data=st.data(), value=JSON)
def test_a_manifest_with_one_value_replaced_is_refused_or_sound(bundle: Path, data: st.DataObject, value: Any) -> None:
    """200 manifests, each with another value in one place; what passes can be written and read again."""
    path = bundle / "manifest.json"
    original = path.read_text()
    manifest = json.loads(original)
    place = data.draw(st.sampled_from(list(places(manifest))))
    path.write_text(json.dumps(put(manifest, place, value)))
    if refusal(bundle) is None:
        loaded = load_manifest(bundle)
        assert loaded == Manifest.model_validate_json(loaded.model_dump_json())
    path.write_text(original)


# Parameters


WORDS = st.sampled_from([*METHODS, *SCHEDULES, "dx", "dx,dy", "0,1,2", "nan", "inf", ""]) | st.text(max_size=30)


@EACH
@given(
    st.builds(
        RunOptions,
        estimator=WORDS,
        ascent_steps=st.integers(),
        ascent_sign=st.booleans(),
        max_gradient_norm=FLOATS,
        disagreement_scale=FLOATS,
        weight_schedule=WORDS,
        unguided_actions=WORDS,
    )
)
def test_garbage_as_guidance_options_is_refused_or_sound(small_bundle: Path, options: RunOptions) -> None:
    """200 sets of options."""
    manifest = Manifest.model_validate_json((small_bundle / "manifest.json").read_bytes())
    try:
        guidance = options.resolve(manifest).guidance(manifest)
    except QgfError as error:
        said = str(error)
    else:
        said = "sound"
        assert all(0.0 <= guidance.factor(k, 10) < math.inf for k in range(10))
    assert reads_like_one_sentence(said)


ANYTHING = st.none() | st.booleans() | st.integers() | FLOATS | WORDS | st.lists(st.text(max_size=5), max_size=3)


@EACH
@given(data=st.data())
def test_garbage_as_parameter_values_is_refused_or_sound(small_bundle: Path, data: st.DataObject) -> None:
    """200 sets of values with up to three replaced by anything."""
    pytest.importorskip("rclpy", reason="parameters need the ros extra or a ROS 2 installation")
    from qgf_ros.nodes import parameters
    from qgf_ros.nodes.declarations import declarations

    manifest = Manifest.model_validate_json((small_bundle / "manifest.json").read_bytes())
    defaults = {name: default for name, (default, _) in declarations().items()}
    changed = data.draw(st.dictionaries(st.sampled_from(sorted(parameters.LIVE)), ANYTHING, max_size=3))
    changed = {
        name: value
        for name, value in changed.items()
        # The node's own declaration holds each parameter to its type; options are sound without it.
        if name in ROWS or type(value) is type(defaults[name])
    }
    try:
        chosen = parameters.options_from({**defaults, **changed}).resolve(manifest)
    except QgfError as error:
        said = str(error)
    else:
        said = "sound"
        assert 0.0 <= chosen.guidance_weight < math.inf
    assert reads_like_one_sentence(said)


PARAMETER_FILES = textwrap.dedent(
    """
    import random, sys
    from pathlib import Path
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from qgf_ros.nodes import policy_node

    class Once(SingleThreadedExecutor):
        def spin_once(self, *args, **kwargs):
            raise ExternalShutdownException  # the node has come up: that is enough

    def garbage(good, number):
        source = random.Random(number)
        data = bytearray(good, "utf-8")
        if number % 4 == 0:
            return bytes(source.randrange(256) for _ in range(source.randrange(200)))
        if number % 4 == 1:
            for _ in range(source.randrange(1, 10)):
                data[source.randrange(len(data))] = source.randrange(256)
            return bytes(data)
        if number % 4 == 2:
            lines = good.splitlines()
            at = source.randrange(len(lines))
            words = ["[1, a]", "{a: 1}", ".nan", "'", "1e999", "9" * 30, "!!python/object:os.system x", "*x", "- 1"]
            lines[at] = lines[at].split(":")[0] + ": " + source.choice(words)
            return "\\n".join(lines).encode()
        return bytes(data[: source.randrange(len(data))])

    policy_node.make_executor = lambda name: Once()
    good, path = Path(sys.argv[1]).read_text(encoding="utf-8"), Path(sys.argv[2])
    for number in range(int(sys.argv[3]), int(sys.argv[4]) + 1):
        path.write_bytes(garbage(good, number))
        print(number, flush=True)
        print(number, file=sys.stderr, flush=True)
        code = policy_node.main(["--ros-args", "--params-file", str(path)])
        print("refused" if code else "runs", flush=True)
    """
)


def run_parameter_files(folder: Path, first: int, last: int) -> list[str]:
    pytest.importorskip("rclpy", reason="parameters need the ros extra or a ROS 2 installation")
    good = Path(__file__).resolve().parents[2] / "config" / "policy_node.yaml"
    environment = {
        **os.environ,
        "ROS_LOG_DIR": str(folder),
        "ROS_HOME": str(folder),
        "ROS_DOMAIN_ID": str(reserve_domain()),
    }
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "OFF"
    arguments = [sys.executable, "-c", PARAMETER_FILES, str(good), str(folder / "p.yaml"), str(first), str(last)]
    process = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, f"exit code {process.returncode}:\n{process.stdout[-200:]}{process.stderr[-3000:]}"
    assert "Traceback" not in process.stderr
    return process.stdout.split()[1::2]


def test_garbage_as_a_parameter_file_is_refused_or_sound(tmp_path: Path) -> None:
    """40 files given to a node: bytes, a file with bytes changed, lines of other types, a file cut short."""
    outcomes = run_parameter_files(tmp_path, 0, 39)
    assert len(outcomes) == 40
    assert {"refused", "runs"} == set(outcomes)


@pytest.mark.slow
def test_much_garbage_as_parameter_files_is_refused_or_sound(tmp_path: Path) -> None:
    """400 more."""
    assert len(run_parameter_files(tmp_path, 40, 439)) == 400
