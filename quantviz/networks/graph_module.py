"""Exported graphs (``torch.export``, PT2E) with their layers back: modules that can be watched and named as targets."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload

_STACK, _VALUE = "nn_module_stack", "val"
_PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


def with_layers(module: nn.Module) -> nn.Module:
    """Return an exported graph as a module that has layers; any other module as it is.

    An exported graph is a list of functions. Here what the function at the end of a layer of the original module gives
    goes through a module of that layer's name (``"features.12"``), and what other functions give, where it has three
    dimensions or more, through one of the function's name in the graph (``"relu_5"``). They change nothing, and weights
    and buffers are shared.

    Args:
        module: any.
    """
    if not is_exported(module):
        return module
    assert isinstance(module, fx.GraphModule)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(module.graph, copies)
    graph.output(output)
    graph.set_codegen(module.graph._codegen)  # which takes and gives what the exported module did
    places = _places(module.graph)
    parts: dict[str, Any] = {}
    for node in module.graph.nodes:
        if node.op in ("get_attr", "call_module"):
            parts[str(node.target)] = _attribute(module, str(node.target))
    for node, names in places.items():
        last = copies[node]
        for name in names:
            with graph.inserting_after(last):
                marked = graph.call_module(name, (last,))
            last.replace_all_uses_with(marked)
            marked.args = (last,)
            parts[name], last = nn.Identity(), marked
    made = fx.GraphModule(parts, graph, type(module).__name__)
    made.training = False
    if _takes_one(module.graph):
        made.__class__ = type(type(module).__name__, (_OneByOne, type(made)), {})
    return made


class _OneByOne:
    """Gives pictures one after the other to a graph that was exported for one."""

    def forward(self, images: Tensor, *rest: Any) -> Any:
        parent: Any = super()
        return torch.cat([parent.forward(image, *rest) for image in torch.split(images, 1)])


def _takes_one(graph: fx.Graph) -> bool:
    first = next(iter(graph.find_nodes(op="placeholder")), None)
    value = None if first is None else first.meta.get(_VALUE)
    return isinstance(value, Tensor) and value.ndim == 4 and type(value.shape[0]) is int and value.shape[0] == 1


def is_exported(module: nn.Module) -> bool:
    """Tell whether a module is a graph of functions, as ``torch.export`` and PT2E make them."""
    return isinstance(module, fx.GraphModule) and any(
        node.op == "call_function" and isinstance(node.target, OpOverload) for node in module.graph.nodes
    )


def _places(graph: fx.Graph) -> dict[fx.Node, list[str]]:
    """Return the names of the layers that end at a node, the innermost first."""
    found: dict[fx.Node, list[str]] = {}
    inside: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        for path in _paths(node):
            inside.setdefault(path, []).append(node)
    for path, nodes in sorted(inside.items(), key=lambda entry: -entry[0].count(".")):
        own = set(nodes)
        leaving = [node for node in nodes if not _users(node) <= own]
        if len(leaving) == 1 and _is_activation(leaving[0]):
            found.setdefault(leaving[0], []).append(path)
    taken = {path.partition(".")[0] for path in inside}
    for node in graph.nodes:
        if node not in found and node.name not in taken and _is_activation(node):
            found[node] = [node.name]
    return found


def _paths(node: fx.Node) -> list[str]:
    """Return the layers of the original module that a node is of; those that are called more than once are left out."""
    if node.op != "call_function":
        return []
    paths = [str(entry[0]) for entry in (node.meta.get(_STACK) or {}).values()]
    return [path for path in paths if _PATH.fullmatch(path)]


def _users(node: fx.Node) -> set[fx.Node]:
    """Return the nodes that read a node, through those that quantizing put between them."""
    found: set[fx.Node] = set()
    waiting = list(node.users)
    while waiting:
        user = waiting.pop()
        if user.op == "call_function" and not user.meta.get(_STACK):
            waiting += user.users
        else:
            found.add(user)
    return found


def _is_activation(node: fx.Node) -> bool:
    value = node.meta.get(_VALUE)
    shaped = isinstance(value, Tensor) and value.ndim >= 3 and value.dtype == torch.float32
    return node.op == "call_function" and shaped


def _attribute(module: nn.Module, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part)
    return value
