"""A policy that sees: each encoder runs once per inference, and everything behind it is as it was without one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="building encoders needs onnx")

from camera_bundles import CAMERAS, C, Z, write_camera_bundle

from qgf_ros.bundle.store import read_bundle
from qgf_ros.errors import BundleError, GuidanceError
from qgf_ros.guidance.prefix import Prefix
from qgf_ros.guidance.shaping import Guidance
from qgf_ros.runtime import encoders
from qgf_ros.runtime.encoders import OnnxEncoder
from qgf_ros.runtime.policy import Policy
from qgf_ros.runtime.session import CPU

BATCH = 3


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a critic that shares the features of the policy, and one with an encoder of its own."""
    return write_camera_bundle(tmp_path_factory.mktemp("bundles") / "seeing", critics={"near": None, "far": 5})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each encoder was run."""
    found: Counter[str] = Counter()

    class Counting(OnnxEncoder):
        def __init__(self, files: Any, critic: str | None, *rest: Any) -> None:
            super().__init__(files, critic, *rest)
            self._name = critic or "policy"

        def __call__(self, images: Any, observations: Any) -> Any:
            found[self._name] += 1
            return super().__call__(images, observations)

    monkeypatch.setattr(encoders, "OnnxEncoder", Counting)
    return found


def drawn(batch: int, candidates: int = 1, seed: int = 0) -> tuple[Any, Any, Any]:
    """Return observations, images and noise."""
    random = np.random.default_rng(seed)
    images = {
        name: random.integers(0, 256, (batch, *camera.size, 3), dtype=np.uint8) for name, camera in CAMERAS.items()
    }
    observations = random.standard_normal((batch, 2), dtype=np.float32)
    return observations, images, random.standard_normal((batch, candidates, C), dtype=np.float32)


PREFIX = Prefix(np.zeros((BATCH, C), np.float32), np.ones((BATCH, C), np.float32))
WAYS: dict[str, tuple[str, dict[str, Any], dict[str, int]]] = {
    "plain": ("near", {"guidance_weight": 0.0}, {"policy": 1}),
    "plain, the other critic": ("far", {"guidance_weight": 0.0}, {"policy": 1}),
    "guided": ("near", {"guidance_weight": 0.3}, {"policy": 1}),
    "guided by a critic with an encoder": ("far", {"guidance_weight": 0.3}, {"policy": 1, "far": 1}),
    "some rows guided": ("far", {"guidance_weight": np.float32([0.3, 0.0, 0.1])}, {"policy": 1, "far": 1}),
    "best of four": ("near", {"guidance_weight": 0.0, "candidates": 4}, {"policy": 1}),
    "best of four by a critic with an encoder": (
        "far",
        {"guidance_weight": 0.3, "candidates": 4},
        {"policy": 1, "far": 1},
    ),
    "through every step": ("near", {"guidance_weight": 0.3, "guidance": Guidance(estimator="bptt")}, {"policy": 1}),
    "with a prefix": ("far", {"guidance_weight": 0.3, "prefix": PREFIX}, {"policy": 1, "far": 1}),
}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_an_encoder_runs_once_per_inference(bundle: Path, calls: Counter[str], way: str, fused: bool) -> None:
    critic, options, expected = WAYS[way]
    policy = Policy.load(bundle, fused=fused)
    policy.warm_up()
    calls.clear()
    options = dict(options)
    observations, images, noise = drawn(BATCH, options.pop("candidates", 1))
    weight = options.pop("guidance_weight")
    for inferences in (1, 2):
        chunks = policy.act(observations, noise, critic, weight, images=images, **options)
        assert calls == {name: inferences * times for name, times in expected.items()}
    assert len(chunks) == BATCH
    assert {chunk.telemetry["encoder_runs"] for chunk in chunks} == {sum(expected.values())}
    assert all(chunk.telemetry["encode_ms"] > 0.0 and not chunk.telemetry["critic_failed"] for chunk in chunks)


@pytest.mark.parametrize(("critic", "fast"), [("near", True), ("far", False)])
def test_a_policy_that_sees_acts_as_one_that_is_given_the_features(bundle: Path, critic: str, fast: bool) -> None:
    """Guidance, candidates and the fast path are those of a bundle whose observation the features are."""
    policy = Policy.load(bundle)
    assert policy.has_fast_path(critic) is fast
    observations, images, noise = drawn(BATCH, 2)
    files = read_bundle(bundle)[1]
    z, own = (OnnxEncoder(files, of, [CPU], 1)(images, observations) for of in (None, "far"))
    assert z.shape == (BATCH, Z)
    given = {"policy": z, "near": z, "far": own}
    for weight in (0.0, 0.3):
        seen = policy.act(observations, noise, critic, weight, images=images)
        blind = Policy(
            policy.manifest,
            policy._velocity,
            {name: Bound(one, given[name]) for name, one in policy._critics.items()},
            policy._fused,
            encoders={None: lambda *_: given["policy"]},
        ).act(observations, noise, critic, weight, images=images)
        for one, other in zip(seen, blind, strict=True):
            np.testing.assert_array_equal(one.actions, other.actions)
            np.testing.assert_array_equal(one.unguided, other.unguided)
            assert one.telemetry["q"] == other.telemetry["q"]


class Bound:
    """A critic that is given the same features whatever it is asked about."""

    def __init__(self, critic: Any, features: Any) -> None:
        self._critic, self._features = critic, features

    def given(self, observations: Any) -> Any:
        return self._critic.given(self._features)

    def aggregate(self, q: Any) -> Any:
        return self._critic.aggregate(q)


def test_the_fast_path_does_what_the_primitives_do(bundle: Path) -> None:
    observations, images, noise = drawn(BATCH)
    for weight in (0.0, 0.3):
        fast, slow = (
            Policy.load(bundle, fused=fused).act(observations, noise, "near", weight, images=images)
            for fused in (True, False)
        )
        for one, other in zip(fast, slow, strict=True):
            np.testing.assert_allclose(one.actions, other.actions, atol=1e-5)


def test_a_row_of_a_batch_is_its_own_image(bundle: Path) -> None:
    policy = Policy.load(bundle)
    observations, images, noise = drawn(BATCH)
    together = policy.act(observations, noise, "near", 0.2, images=images)
    for i in range(BATCH):
        alone = {name: pixels[i : i + 1] for name, pixels in images.items()}
        (chunk,) = policy.act(observations[i : i + 1], noise[i : i + 1], "near", 0.2, images=alone)
        np.testing.assert_allclose(chunk.actions, together[i].actions, atol=1e-5)
    others = {name: np.ascontiguousarray(pixels[::-1]) for name, pixels in images.items()}
    changed = policy.act(observations, noise, "near", 0.2, images=others)
    assert not np.allclose(changed[0].actions, together[0].actions)


def test_weight_0_is_plain_behaviour_cloning_to_the_bit_whatever_the_critic_sees(bundle: Path) -> None:
    policy = Policy.load(bundle)
    observations, images, noise = drawn(BATCH)
    near, far = (policy.act(observations, noise, critic, 0.0, images=images) for critic in ("near", "far"))
    for one, other in zip(near, far, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)
    guided = policy.act(observations, noise, "far", 0.3, images=images)
    for one, other in zip(near, guided, strict=True):
        np.testing.assert_allclose(one.actions, other.unguided, atol=1e-6)


def test_a_critic_whose_encoder_fails_leaves_plain_behaviour_cloning(tmp_path: Path, calls: Counter[str]) -> None:
    bundle = write_camera_bundle(tmp_path / "seeing", critics={"far": 5}, broken={"bias": float("nan")})
    policy = Policy.load(bundle)
    observations, images, noise = drawn(BATCH)
    failed = policy.act(observations, noise, "far", 0.3, images=images)
    assert calls == {"policy": 1, "far": 1}
    plain = policy.act(observations, noise, "far", 0.0, images=images)
    for one, other in zip(failed, plain, strict=True):
        assert one.telemetry["critic_failed"] == 1.0
        np.testing.assert_array_equal(one.actions, other.actions)


def test_an_encoder_of_the_policy_that_fails_is_an_error(bundle: Path) -> None:
    policy = Policy.load(bundle)
    observations, images, noise = drawn(BATCH)
    observations[0, 0] = np.nan
    for weight in (0.0, 0.3):
        with pytest.raises(GuidanceError, match="encoder.onnx gave a value that is not finite"):
            policy.act(observations, noise, "near", weight, images=images)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda images: None, "images of no camera were given; bundle seeing sees with wrist, front"),
        (lambda images: {"wrist": images["wrist"]}, "images of wrist were given"),
        (
            lambda images: {**images, "wrist": images["wrist"][:1]},
            r"of shape \(1, 6, 8, 3\) and uint8 were given, expected",
        ),
        (lambda images: {**images, "front": images["front"] / 255.0}, "float64 were given"),
    ],
)
def test_images_that_are_none_of_the_bundle_are_refused(bundle: Path, change: Any, sentence: str) -> None:
    observations, images, noise = drawn(BATCH)
    with pytest.raises(GuidanceError, match=sentence):
        Policy.load(bundle).act(observations, noise, "near", 0.0, images=change(images))


def test_images_for_a_bundle_without_cameras_are_refused(tiny_policy: Policy) -> None:
    manifest = tiny_policy.manifest
    zeros = np.zeros((1, 1, manifest.chunk_size), np.float32), np.zeros((1, manifest.observation_size), np.float32)
    with pytest.raises(GuidanceError, match="bundle tiny sees with none"):
        tiny_policy.act(zeros[1], zeros[0], "task1", 0.0, images={"wrist": np.zeros((1, 4, 4, 3), np.uint8)})
    (chunk,) = tiny_policy.act(zeros[1], zeros[0], "task1", 0.0)
    assert "encode_ms" not in chunk.telemetry


def test_a_policy_may_see_and_measure_nothing(tmp_path: Path) -> None:
    policy = Policy.load(write_camera_bundle(tmp_path / "seeing", state=False))
    policy.warm_up(2)
    _, images, noise = drawn(BATCH)
    nothing = np.empty((BATCH, 0), dtype=np.float32)
    assert len(policy.act(nothing, noise, "near", 0.3, images=images)) == BATCH


def test_what_onnx_runtime_cannot_load_is_named(bundle: Path) -> None:
    files = dict(read_bundle(bundle)[1])
    files["encoder.onnx"] = files["encoder.onnx"][:-10]
    with pytest.raises(BundleError, match="encoder.onnx: ONNX Runtime cannot load it"):
        OnnxEncoder(files, None, [CPU], 1)


def test_what_is_asked_for_counts_for_best_of_n_and_twins(bundle: Path) -> None:
    """Of candidates the one with the highest Q of the critic's own features is kept."""
    policy = Policy.load(bundle)
    observations, images, noise = drawn(1, 4)
    (best,) = policy.act(observations, noise, "far", 0.0, images=images)
    singles = [
        policy.act(observations, noise[:, i : i + 1], "far", 1e-9, images=images)[0].telemetry["q"] for i in range(4)
    ]
    assert best.telemetry["q"] == pytest.approx(max(singles), abs=1e-5)
    assert replace(best).telemetry["guidance_distance"] == 0.0
