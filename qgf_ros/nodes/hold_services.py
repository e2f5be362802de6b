"""The software stop of the policy node: the services ``~/hold`` and ``~/resume``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from std_srvs.srv import Trigger

from qgf_ros.loop.gate import CommandGate


class HoldServices:
    """A stop that outlives observations, parameters and every transition of the life cycle; only ``~/resume`` ends it.

    Args:
        node: Whose services they are.
        gate: Returns what commands pass while the node is configured, else None.
    """

    def __init__(self, node: Any, gate: Callable[[], CommandGate | None]) -> None:
        self._gate = gate
        self._stopped: str | None = None
        node.create_service(Trigger, "~/hold", self._on_hold)
        node.create_service(Trigger, "~/resume", self._on_resume)

    def stop_if_held(self, gate: CommandGate) -> None:
        """Stop a new gate if the last word was ``~/hold``."""
        if self._stopped is not None:
            gate.stop(self._stopped)

    def _on_hold(self, request: Any, response: Any) -> Any:
        self._stopped = "by ~/hold; call ~/resume to go on"
        response.success, response.message = True, "nothing but the hold is published until ~/resume"
        gate = self._gate()
        if gate is not None:
            try:
                gate.stop(self._stopped)
            except Exception as error:  # nothing more goes out, yet the hold itself may not have
                response.success, response.message = False, f"the hold could not be published: {error}"
        return response

    def _on_resume(self, request: Any, response: Any) -> Any:
        held, self._stopped = self._stopped is not None, None
        gate = self._gate()
        if gate is not None:
            gate.resume()  # without a stop, too: a start that was refused is tried again
        response.success = True
        response.message = (
            "observations are answered again" if held else "nothing was held; a refused start is tried again"
        )
        return response
