"""The card of a bundle: its manifest, readable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qgf_ros.bundle.demonstrations import QUANTILES, component_name
from qgf_ros.bundle.expectation import UNKNOWN
from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.manifest import Evaluation, Manifest, PairedSuccess
from qgf_ros.bundle.own_graphs import estimators_of
from qgf_ros.commands.show.sight import cameras_table, flow_of_data


def card(manifest: Manifest) -> RenderableType:
    """Return everything a manifest says, as tables."""
    parts: list[RenderableType] = [_header(manifest), _observation(manifest)]
    if manifest.cameras:
        parts += [cameras_table(manifest), flow_of_data(manifest)]
    parts += [_action(manifest), _critics(manifest)]
    if any(critic.evaluations for critic in manifest.critics.values()):
        parts.append(_evaluations(manifest))
    if manifest.precisions:
        parts.append(precision_table(manifest))
    if manifest.parity:
        parts.append(parity_table(manifest))
    parts.append(_demonstrations(manifest))
    parts.append(_files(manifest))
    if manifest.training:
        parts.append(_pairs("training", ((key, _flat(value)) for key, value in manifest.training.items())))
    return Group(*parts)


def parity_table(manifest: Manifest) -> RenderableType:
    """Return the largest difference between torch and ONNX Runtime of every output."""
    table = _table("parity", "output", "largest difference")
    for name, error in manifest.parity.items():
        table.add_row(name, f"{error:.1e}")
    return table


def precision_table(manifest: Manifest) -> RenderableType:
    """Return what other precisions cost and gain, critic by critic."""
    title = f"precisions (tolerance of the action error: {manifest.precision_tolerance:g})"
    cost = _table(title, "precision", "critic", "weight", "error: largest", "99 %", "change of Q", "time")
    success = _table(
        "success in both precisions", "precision", "critic", "in fp32", "in the variant", "difference", "p"
    )
    for name, variant in manifest.precisions.items():
        for critic, found in variant.critics.items():
            cost.add_row(
                *(name, critic, f"{found.guidance_weight:g}"),
                *(f"{error:.2g}" for error in (found.action_error.largest, found.action_error.p99)),
                *(f"{found.q_change_mean:+.2g} of {found.q_mean:.3g}", f"x {found.latency_ratio:.2f}"),
            )
            if found.closed_loop is not None:
                success.add_row(name, critic, *_paired(found.closed_loop))
    return Group(cost, success) if success.row_count else cost


def _paired(success: PairedSuccess) -> tuple[str, ...]:
    runs = (_evaluation(run) for run in (success.fp32, success.variant))
    low, high = success.difference_ci95
    return (
        *(f"{rate}, {interval}" for _, rate, interval, *_ in runs),
        f"{100 * success.difference:+.0f} [{100 * low:.0f}, {100 * high:.0f}] %",
        f"{success.p_value:.2g}",
    )


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _pairs(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    table = _table(title, "", "")
    table.show_header = False
    for key, value in rows:
        table.add_row(key, value)
    return table


def _goal(manifest: Manifest) -> str:
    if manifest.goal is None:
        return "one per critic"
    held = f": {', '.join(manifest.goal_fields)}" if manifest.goal_fields else ""
    return f"field {manifest.goal}{held}"


def _header(manifest: Manifest) -> RenderableType:
    rows = [
        ("description", manifest.description or "-"),
        ("licence", manifest.licence),
        ("environment", manifest.environment or "-"),
        ("observation", f"{manifest.observation_size} values"),
        ("goal", _goal(manifest)),
        ("action", f"{manifest.action_size} values"),
        ("chunk", f"{manifest.horizon} actions predicted, {manifest.execution_horizon} executed"),
        ("control rate", f"{manifest.control_rate:g} Hz"),
        ("denoising steps", str(manifest.denoising_steps)),
        ("policy", str(manifest.training.get("policy", "-"))),
        ("guided by", ", ".join(estimators_of(manifest))),
    ]
    return Group(
        Text(f"{manifest.name} (manifest version {manifest.schema_version})", style="bold"), _pairs("bundle", rows)
    )


def _observation(manifest: Manifest) -> RenderableType:
    table = _table("observation", "block", "size", "taken from", "of topic", "unit", "max age")
    for field in manifest.observation:
        age = "-" if field.max_age is None else f"{field.max_age:g} s"
        table.add_row(field.name, str(field.size), field.extraction, field.source, _scaled(field), age)
    joints = [f"  {field.name}: {', '.join(field.joints)}" for field in manifest.observation if field.joints]
    return Group(table, Text("joints", style="bold"), *joints, "") if joints else table


def _demonstrations(manifest: Manifest) -> RenderableType:
    known = manifest.demonstrations
    quaternions = [f"  {field.name}: {_hemisphere(field, manifest)}" for field in manifest.observation if _turns(field)]
    signs: list[RenderableType] = []
    if quaternions:
        signs = [Text("signs of quaternions", style="bold"), *quaternions, ""]
    if known is None:
        return Group(_pairs("demonstrations", [("observations", UNKNOWN)]), *signs)
    title = f"demonstrations ({known.dataset}, {known.rows} observations)"
    table = _table(title, "block", "component", "unit", *(name.replace("_", ".") for name in QUANTILES))
    for field in manifest.observation:
        if field.name in known.fields:
            rows = zip(*(getattr(known.fields[field.name], name) for name in QUANTILES))
            for i, values in enumerate(rows):
                table.add_row(field.name, component_name(field, i), field.unit, *(f"{value:.3g}" for value in values))
    return Group(table, *signs)


def _turns(field: ObservationField) -> bool:
    return field.constant is None and field.extraction.startswith("quaternion_")


def _hemisphere(field: ObservationField, manifest: Manifest) -> str:
    if field.mean_quaternion is not None:
        mean = ", ".join(f"{value:.3g}" for value in field.mean_quaternion)
        if field.sign_follows:
            return (
                f"of q and -q first the nearer to ({mean}), where the training data begin, then that to the one before"
            )
        return f"of q and -q the nearer to ({mean}), the mean of the training data"
    if manifest.demonstrations is None or field.components:
        return "as the topic has them; which ones the training data had is unknown"
    return "as the topic has them; the training data hold both signs, there is no hemisphere to choose"


def _scaled(field: ObservationField) -> str:
    if isinstance(field.scale, tuple) and len(set(field.scale)) > 1:
        return f"{field.unit} x {min(field.scale):g} .. {max(field.scale):g}"
    scale = field.scale[0] if isinstance(field.scale, tuple) else field.scale
    return field.unit if scale == 1.0 else f"{field.unit} x {scale:g}"


def _action(manifest: Manifest) -> Table:
    table = _table("action", "name", "unit", "[-1, 1] is", "limits", "max rate")
    for field in manifest.action:
        rate = "-" if field.max_rate is None else f"{field.max_rate:g} {field.unit}/s"
        reach = f"{field.offset - field.scale:g} .. {field.offset + field.scale:g}"
        table.add_row(field.name, field.unit, reach, f"{field.lower:g} .. {field.upper:g}", rate)
    return table


def _critics(manifest: Manifest) -> RenderableType:
    table = _table("critics", "name", "task", "recommended weight", "tested weights", "discount", "ensemble")
    for name, critic in manifest.critics.items():
        low, high = critic.tested_range
        table.add_row(
            name,
            critic.task,
            ", ".join([f"{critic.recommended_weight:g}", *_settings(critic.recommended_settings)]),
            f"{low:g} .. {high:g}" if critic.evaluations else "never evaluated",
            f"{critic.discount:g}",
            f"{critic.ensemble_size}, {critic.aggregation}",
        )
    limits = {name: ", ".join(_settings(critic.recommended_limits)) for name, critic in manifest.critics.items()}
    lines = [f"  {name}: {words}" for name, words in limits.items() if words]
    return Group(table, Text("limits of guidance on a robot", style="bold"), *lines, "") if lines else table


def _settings(settings: Mapping[str, object]) -> list[str]:
    return [f"{name} {value}" for name, value in settings.items()]


def _evaluations(manifest: Manifest) -> Table:
    table = _table("evaluations", "critic", "weight", "success", "95 % interval", "mean length", "seeds", "purpose")
    for name, critic in manifest.critics.items():
        for evaluation in critic.evaluations:
            table.add_row(name, *_evaluation(evaluation))
    return table


def _evaluation(evaluation: Evaluation) -> tuple[str, ...]:
    low, high = evaluation.ci95
    where = [] if evaluation.source == "simulation" else ["on a robot"]
    goals = [f"goals of tasks {_flat(evaluation.goals)}"] if evaluation.goals else []
    return (
        ", ".join([f"{evaluation.guidance_weight:g}", *_settings(evaluation.settings)]),
        f"{evaluation.successes}/{evaluation.episodes}",
        f"{100 * low:.0f} - {100 * high:.0f} %",
        f"{evaluation.mean_length:.0f}",
        f"{evaluation.first_seed} .. {evaluation.last_seed}",
        ", ".join([evaluation.purpose, *where, *goals]),
    )


def _files(manifest: Manifest) -> Table:
    table = _table("files", "path", "size", "sha256")
    for path, record in manifest.files.items():
        table.add_row(path, f"{record.size / 1024:.0f} KiB", f"{record.sha256[:16]}…")
    return table


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(_flat(item) for item in value)
    return str(value)
