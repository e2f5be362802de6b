"""Jobs on a Ray cluster, one on each of its cores: the same function on the same versions, so the same results as here."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from qgf_ros import __version__
from qgf_ros.errors import QgfError, SimulationError

#: Longest wait for a machine to take a connection [s].
CONNECT_TIMEOUT = 10.0
#: Packages whose version decides what a simulated episode is.
DECISIVE = ("mujoco", "numpy", "ogbench", "onnxruntime")

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


class RayCluster:
    """A Ray cluster that was joined, as long as `join_cluster` gives it."""

    def run(self, function: Callable[[_Job], _Result], jobs: Sequence[_Job]) -> Iterator[tuple[_Job, _Result]]:
        """Run a function on the cores of the cluster and yield each job with its result as it ends, in any order.

        Args:
            function: Of a module, which every machine has; what it returns is sent back.
            jobs: What it is called with, once each. A job whose machine is lost runs again on another one.

        Raises:
            QgfError: As the function raised it there, with the name of the machine where it is another than this.
            SimulationError: A machine lacks this package or what it simulates with, has other versions of them, or was
                lost.
        """
        import ray

        remote = ray.remote(num_cpus=1, max_retries=3)(_self_contained())
        expected = versions()
        pending = {remote.remote(ray.cloudpickle.dumps((function, job)), expected): job for job in jobs}
        while pending:
            (done,), _ = ray.wait(list(pending))
            yield pending.pop(done), _result(done)


@contextmanager
def join_cluster(address: str, **options: Any) -> Iterator[RayCluster]:
    """Join a Ray cluster, and leave it at the end; what runs then is ended there, too.

    Args:
        address: As of ``ray.init``: ``auto``, ``local``, HOST:PORT or ``ray://HOST:10001``.
        options: Of ``ray.init``.

    Raises:
        ImportError: Ray is not installed.
        SimulationError: There is no cluster at the address.
    """
    # Ray goes on trying for a quarter of an hour otherwise; once takes it 40 s.
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    import ray

    try:
        _connect(address)
        ray.init(address, log_to_driver=False, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise SimulationError(
            f"no Ray cluster can be joined at {address} ({_first_line(error)}); start one with 'ray start --head', "
            "and set RAY_AUTH_MODE=token where it asks for a token"
        ) from error
    try:
        yield RayCluster()
    finally:
        ray.shutdown()


def versions() -> dict[str, str]:
    """Return the versions of this package and of those that decide what an episode is, as far as they are installed."""
    found = {"qgf_ros": __version__}
    for name in DECISIVE:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # what needs it says so itself
            continue
    return found


def call(payload: bytes) -> Any:
    """Call the function in `payload`, from `RayCluster.run`, on this machine of a cluster."""
    import ray

    function, job = ray.cloudpickle.loads(payload)  # as Ray reads all that it is sent
    return function(job)


def _self_contained() -> Callable[[bytes, dict[str, str]], Any]:
    """Return what a machine of the cluster runs; it is sent whole, so that it can say that this package is missing there.

    It returns the machine's name, and either "" and the result or a complaint and None.
    """

    def there(payload: bytes, expected: dict[str, str]) -> tuple[str, str, Any]:
        import platform

        machine = platform.node()
        try:
            from qgf_sim.cluster import call, versions

            found = versions()
            for name, version in expected.items():
                if found.get(name, version) != version:
                    return machine, f"has {name} {found[name]} where this one has {version}", None
            return machine, "", call(payload)
        except ImportError as error:
            return machine, f"cannot import what the work needs ({error})", None
        except Exception as error:
            if type(error).__module__ != "qgf_ros.errors":
                raise
            return machine, "", error

    return there


def _result(reference: Any) -> Any:
    import ray

    try:
        machine, complaint, result = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error  # as it would be raised here
    except ray.exceptions.RayError as error:
        raise SimulationError(
            f"a machine of the Ray cluster was lost ({_first_line(error)}); run the same command again"
        ) from error
    if complaint:
        raise SimulationError(
            f"machine {machine} of the Ray cluster {complaint}; install there what is installed here, with its extra sim"
        )
    if isinstance(result, QgfError):
        raise result if machine == platform.node() else type(result)(f"on machine {machine} of the cluster: {result}")
    return result


def _connect(address: str) -> None:
    """Raise OSError or ValueError where an address names a machine and nothing listens there."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.port is not None:
        socket.create_connection((place.hostname, place.port), CONNECT_TIMEOUT).close()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
