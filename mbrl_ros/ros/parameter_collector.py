"""Parameters of other nodes, so that a recording says with which settings it was made."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.task import Future

_ROUNDS_PER_QUESTION = 5


class ParameterCollector:
    """Asks each node for all its parameters until it has answered.

    Args:
        node: Owner of the service clients.
        names: Nodes to ask, all in the namespace of `node`.

    Attributes:
        found: Parameters by the name of the node.
    """

    def __init__(self, node: Node, names: Sequence[str]) -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self._node = node
        self._missing = set(names)
        self._clients: dict[str, tuple[Client, Client]] = {}
        self._rounds: dict[str, int] = {}

    def poll(self) -> None:
        """Ask every node that is up and has not answered; call it about once a second.

        The first call for a node only makes clients, because the server must discover them before it can answer. The question
        is repeated after some calls, because the node may have restarted before it answered.
        """
        own = self._node.get_namespace()
        present = {name for name, namespace in self._node.get_node_names_and_namespaces() if namespace == own}
        for name in sorted(self._missing & present):
            if name not in self._clients:
                self._clients[name] = (self._node.create_client(ListParameters, f'{name}/list_parameters'),
                                       self._node.create_client(GetParameters, f'{name}/get_parameters'))
                self._rounds[name] = 0
            elif self._rounds[name] % _ROUNDS_PER_QUESTION == 0 and self._clients[name][0].service_is_ready():
                future = self._clients[name][0].call_async(ListParameters.Request())
                future.add_done_callback(partial(self._on_names, name))
                self._rounds[name] += 1
            elif self._rounds[name]:
                self._rounds[name] += 1

    def _on_names(self, name: str, future: Future) -> None:
        if name not in self._clients or future.result() is None:
            return
        names = list(future.result().result.names)
        future = self._clients[name][1].call_async(GetParameters.Request(names=names))
        future.add_done_callback(partial(self._on_values, name, names))

    def _on_values(self, name: str, names: list[str], future: Future) -> None:
        if name not in self._clients or future.result() is None:
            return
        values = map(parameter_value_to_python, future.result().values)
        self.found[name] = {key: _plain(value) for key, value in zip(names, values)}
        self._missing.discard(name)
        for client in self._clients.pop(name):
            self._node.destroy_client(client)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str | bool | int | float | None) else [_plain(entry) for entry in value]
