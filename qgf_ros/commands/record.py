"""`qgf record`: a run of the policy node as one MCAP file."""

from __future__ import annotations

from pathlib import Path


def record(
    bundle: Path,
    out: Path,
    contract: Path | None = None,
    namespace: str = "",
    topics: tuple[str, ...] = (),
    max_size_mb: int = 1024,
    force: bool = False,
) -> None:
    """Record what goes into a policy node and what comes out of it, until Ctrl-C or the largest size.

    Args:
        bundle: Folder or name of the bundle that runs.
        out: File to write, such as run.mcap; it must not exist, unless --force is given.
        contract: Robot contract (YAML) that the policy node uses.
        namespace: Namespace of the policy node.
        topics: Further topics.
        max_size_mb: Largest size of the file [MB]; recording ends when it is reached.
        force: Replace a file that exists.
    """
    from qgf_ros.nodes.recorder import run

    values = {"bundle": bundle, "out": out, "contract": contract or "", "topics": list(topics or ("",))}
    parameters = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    code = run({**parameters, "max_size_mb": max_size_mb, "force": force}, [], namespace=namespace or None)
    if code:
        raise SystemExit(code)
