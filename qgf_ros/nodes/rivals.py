"""Two nodes that command one robot pull it in two directions: whoever publishes beside this node is found here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def rival(node: Any, publishers: Sequence[Any]) -> str | None:
    """Return who else publishes on a topic of this node's commands, and how to mend it, or None.

    A process that was killed counts until the middleware gives it up, 20 s by default with Fast DDS.

    Args:
        node: Who asks the graph.
        publishers: The node's own, which shall be the only ones on their topics.
    """
    topics = [publisher.topic_name for publisher in publishers]
    for topic in topics:
        if node.count_publishers(topic) > topics.count(topic):
            infos = node.get_publishers_info_by_topic(topic)
            names = sorted(f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos)
            return (
                f"{topic} is published by {' and '.join(names)}; one node alone may command a robot: "
                "stop the others, or give them dry_run"
            )
    return None
