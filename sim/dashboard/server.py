"""The web server of the page: viser's, kept to this machine and to the pages that it serves itself.

Whoever reaches the page can steer the robot. So it listens on the loopback interface unless it is told otherwise, asks
no server outside for a tunnel, and refuses what another web site has a browser send here (cross-site requests, names
rebound to this address, frames).
"""

from __future__ import annotations

import http
import ipaddress
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import viser
import websockets.asyncio.server
from websockets.datastructures import Headers

from qgf_ros.errors import SimulationError


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def refusal(host: str, origin: str | None, listening: str) -> str | None:
    """Return why a request is refused, or None if it is not.

    A name that anybody may point at this machine is nobody's proof; an address, or a name of the machine's own, is.

    Args:
        host: Its header Host.
        origin: Its header Origin, which browsers add to every WebSocket; None without.
        listening: Address or name that the server was told to listen on.
    """
    name = urlsplit(f"//{host}").hostname or ""
    if is_loopback(listening) and not is_loopback(name):
        return f"host {host} was asked for; this page is served to this machine only, as localhost"
    if not _is_address(name) and name not in {*_own_names(), listening.lower()}:
        return f"host {host} was asked for; ask for the machine's address or its own name, {socket.gethostname()}"
    if origin is not None and urlsplit(origin).netloc != host:
        return f"a page of {origin} asked; only the dashboard's own page may"
    return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _own_names() -> tuple[str, ...]:
    """Return the names by which this machine knows itself, and the one that multicast DNS gives it."""
    name = socket.gethostname().lower()
    return "localhost", name, f"{name.partition('.')[0]}.local"


class PageServer(viser.ViserServer):
    """A viser server for one page.

    Args:
        host: Address to listen on.
        port: TCP port, 0 for a free one.

    Raises:
        SimulationError: The address is not this machine's, or the port is taken.
    """

    def __init__(self, host: str, port: int) -> None:
        with _guarded(host):
            super().__init__(host=host, port=_free_port(host, port), label="qgf_ros", verbose=False)
        self.gui.configure_theme(show_logo=False, show_share_button=False)

    def request_share_url(self, verbose: bool = True) -> str | None:
        """Make no tunnel: any browser's message could ask for one, and it would open the robot to the internet."""
        return None

    @property
    def url(self) -> str:
        """Address of the page."""
        host = self.get_host()
        return f"http://{f'[{host}]' if ':' in host else host}:{self.get_port()}"


def _free_port(host: str, port: int) -> int:
    """Return the port, or a free one for 0; viser itself would silently take another one."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as error:
        raise SimulationError(
            f"the dashboard cannot listen on {host}, port {port} ({error}); give another --host or --port"
        ) from error


@contextmanager
def _guarded(listening: str) -> Iterator[None]:
    """Have a server that viser starts meanwhile ask `refusal`; viser has no setting for it."""
    serve = websockets.asyncio.server.serve

    def guarded(*arguments: Any, process_request: Callable[[Any, Any], Any], **options: Any) -> Any:
        def process(connection: Any, request: Any) -> Any:
            reason = refusal(request.headers.get("Host", ""), request.headers.get("Origin"), listening)
            if reason is not None:
                return connection.respond(http.HTTPStatus.FORBIDDEN, reason + "\n")
            response = process_request(connection, request)
            if response is not None:
                response.headers.update(Headers({"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"}))
            return response

        return serve(*arguments, process_request=process, **options)

    websockets.asyncio.server.serve = guarded  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        websockets.asyncio.server.serve = serve  # type: ignore[misc]
