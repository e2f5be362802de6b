"""The policy node, which says ten times a second how it is, so that who waits for that waits less."""

from __future__ import annotations

import sys

from qgf_ros.nodes import diagnostics, policy_node

if __name__ == "__main__":
    diagnostics.DIAGNOSTICS_PERIOD = 0.1
    sys.exit(policy_node.main())
