"""Where a run goes on: from the newest checkpoint of its folder, if that is the same run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.errors import TrainingError
from qgf_ros.learning.algorithms.catalogue import DEFAULT_ALGORITHM
from qgf_ros.learning.checkpoint import latest_checkpoint, load_checkpoint
from qgf_ros.learning.trainer import Trainer, TrainingConfig

#: What a header of a run that sees says only where it is otherwise.
_USUAL_SIGHT = {"critic_encoder": "shared", "velocity_field": "kept"}
#: What a resumed run must share with the one it continues, apart from the configuration.
_IDENTITY = (
    *("critics", "environment", "reward", "goal_tolerances", "observation", "action", "control_rate"),
    *("dataset", "cameras", "encoder", *_USUAL_SIGHT, "critics_from"),
)
#: Settings that only say when the learning rate falls and when the run ends.
_COURSE = ("updates", "restart_at")


def resume(trainer: Trainer, header: Mapping[str, Any], out: Path) -> float:
    """Load the newest checkpoint of a folder, if there is one, into a trainer.

    A run may be made longer, and its learning rate begin anew, as long as every update that is done would have been the
    same: what comes out is to the bit a run that had these options from its beginning.

    Args:
        trainer: Of the run as it is asked for.
        header: What its checkpoints will say.
        out: The folder.

    Returns:
        The seconds already spent.

    Raises:
        TrainingError: The folder holds another run, or a checkpoint that does not fit.
    """
    path = latest_checkpoint(out)
    if path is None:
        return 0.0
    tensors, found = load_checkpoint(path)
    different = _different(trainer, found, header, int(tensors["step"]))
    if different:
        raise TrainingError(
            f"{out} holds another run (different: {', '.join(different)}); "
            f"give the same options or another --out{_how_to_extend(trainer, found, different, int(tensors['step']))}"
        )
    trainer.load_state(tensors)
    return float(found.get("hardware", {}).get("seconds", 0.0))


def _different(trainer: Trainer, found: Mapping[str, Any], header: Mapping[str, Any], done: int) -> list[str]:
    """Return in what a checkpoint after `done` updates is of another run."""
    now, before = header["config"], _settings(trainer, found)
    earlier = TrainingConfig.from_dict(before)
    names = [name for name in now if _plain(before.get(name)) != _plain(now[name])]
    if set(names) & set(_COURSE) and _same_course(earlier, trainer.config, done):
        names = [name for name in names if name not in _COURSE]
    different = [f"{name} {before.get(name)} -> {now[name]}" for name in names]
    trained_with = found.get("algorithm", DEFAULT_ALGORITHM)
    if trained_with != header["algorithm"]:
        different.insert(0, f"algorithm {trained_with} -> {header['algorithm']}")
    for key in _IDENTITY:
        was, is_now = identity_of(found, key), identity_of(header, key)
        if was != is_now:
            scalar = not any(isinstance(value, (list, dict)) for value in (was, is_now))
            different.append(f"{key} {was} -> {is_now}" if scalar else key)
    return different


def _settings(trainer: Trainer, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a checkpoint; an older one lacks newer settings."""
    defaults = type(trainer.algorithm).config_class().to_dict()
    return {**TrainingConfig().to_dict(), **defaults, **found.get("config", {})}


def _same_course(earlier: TrainingConfig, now: TrainingConfig, done: int) -> bool:
    """Return whether the learning rate of every update done so far is the same."""
    return all(earlier.learning_rate_of(step) == now.learning_rate_of(step) for step in range(done))


def _how_to_extend(trainer: Trainer, found: Mapping[str, Any], different: list[str], done: int) -> str:
    """Return how a finished run is made longer, where that alone was asked for in another way."""
    before, config = _settings(trainer, found), trainer.config
    of_its_course = all(text.startswith(_COURSE) for text in different)
    if not of_its_course or not before["updates"] == done < config.updates:
        return ""
    restarts = ",".join(str(step) for step in (*TrainingConfig.from_dict(before).restarts, done))
    return f"; this one is made longer with --updates {config.updates} --restart-at {restarts}"


def identity_of(header: Mapping[str, Any], key: str) -> Any:
    """Return a value that must be the same; of the observation without what follows from the data, or is newer."""
    value = header.get(key)
    if key == "reward" and value is None and header.get("environment") and "goal" not in header:
        value = "dense"  # runs of before there was a choice
    if value is None and "encoder" in header:
        value = _USUAL_SIGHT.get(key)
    if key == "observation" and value is not None:
        fields = (ObservationField.model_validate(field) for field in value)
        value = [field.model_dump(mode="json", exclude={"mean_quaternion", "sign_follows"}) for field in fields]
    return _plain(value)


def _plain(value: Any) -> Any:
    """Return a value as it reads after a round trip through JSON."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value
