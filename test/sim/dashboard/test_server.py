"""Who is served, and who is not; a real server, and a plain client."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import pytest

pytest.importorskip("viser", reason="needs the dashboard extra")

import viser
from viser._messages import ShareUrlRequest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from qgf_ros.errors import SimulationError
from qgf_sim.dashboard.server import PageServer, is_loopback, refusal


@pytest.fixture(scope="module")
def server() -> Iterator[PageServer]:
    server = PageServer("127.0.0.1", 0)
    yield server
    server.stop()


def join(server: PageServer, origin: str | None, host: str = "127.0.0.1") -> None:
    """Open a WebSocket to the server as a page of `origin` would, and close it."""
    protocol = f"viser-v{viser.__version__}"
    with (
        socket.create_connection(("127.0.0.1", server.get_port())) as transport,
        connect(f"ws://{host}:{server.get_port()}", sock=transport, origin=origin, subprotocols=[protocol]),
    ):
        pass


def test_the_page_is_served_and_not_framed(server: PageServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.get_port(), timeout=30)
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.status == 200
    assert response.headers["X-Frame-Options"] == "DENY"
    assert b"<html" in response.read()
    connection.close()


def test_its_own_page_may_connect(server: PageServer) -> None:
    join(server, server.url)
    join(server, f"http://localhost:{server.get_port()}", host="localhost")


def test_a_program_without_a_page_may_connect(server: PageServer) -> None:
    join(server, None)


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "null"])
def test_a_page_of_another_site_may_not_connect(server: PageServer, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        join(server, origin)
    assert refused.value.response.status_code == 403


def test_a_foreign_name_for_this_machine_is_refused(server: PageServer) -> None:
    """DNS rebinding: the name is the attacker's, the address is ours, and the origin fits the name."""
    with pytest.raises(InvalidStatus) as refused:
        join(server, f"http://evil.example:{server.get_port()}", host="evil.example")
    assert refused.value.response.status_code == 403


def test_nobody_gets_a_tunnel(server: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("a tunnel was asked for")

    monkeypatch.setattr("viser._viser.ViserTunnel", never)
    handlers = server._websock_server._incoming_handlers[ShareUrlRequest]
    assert handlers, "viser asks for tunnels by this message"
    assert server.request_share_url() is None
    for handler in handlers:
        handler(0, ShareUrlRequest())
    server._thread_executor.submit(lambda: None).result(timeout=60)
    assert server._share_tunnel is None


def test_a_taken_port_is_said_in_one_sentence(server: PageServer) -> None:
    with pytest.raises(SimulationError, match=f"port {server.get_port()} .*give another --host or --port"):
        PageServer("127.0.0.1", server.get_port())


def test_an_address_that_is_not_ours_is_said_in_one_sentence() -> None:
    with pytest.raises(SimulationError, match="cannot listen on 192.0.2.1"):
        PageServer("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("[::1]", True), ("127.9.9.9", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "192.168.1.2", "robot.local", "localhost.evil.example", "")],
)
def test_loopback_is_told_from_the_rest(host: str, local: bool) -> None:
    assert is_loopback(host) is local


OWN_NAMES = ["localhost:8080", "Robot:8080", "robot.local:8080", "robot", "10.0.0.2:8080", "[fd00::2]:8080"]


@pytest.mark.parametrize("host", OWN_NAMES)
def test_on_a_network_the_page_s_own_origin_is_enough(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "robot")
    assert refusal(host, f"http://{host}", "0.0.0.0") is None
    assert refusal(host, None, "0.0.0.0") is None
    assert "only the dashboard's own page" in (refusal(host, "http://evil.example", "0.0.0.0") or "")


@pytest.mark.parametrize("host", ["evil.example:8080", "robot.evil.example:8080", "10.0.0.2.evil.example", ""])
@pytest.mark.parametrize("listening", ["0.0.0.0", "::", "10.0.0.2"])
def test_on_a_network_a_foreign_name_is_refused_too(host: str, listening: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "robot")
    assert "the machine's address or its own name, robot" in (refusal(host, f"http://{host}", listening) or "")


def test_the_name_that_it_was_told_to_listen_on_is_no_foreign_one() -> None:
    assert refusal("cell.example:8080", "http://cell.example:8080", "Cell.example") is None
