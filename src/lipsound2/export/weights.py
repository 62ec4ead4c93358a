"""A traced graph -> the same graph that holds each of its constants once, as a named weight."""

from pathlib import Path

SMALLEST = 256
"""Bytes of constants below which it is not worth it."""


def share(path: Path) -> None:
    """Turn large constants of a graph into weights, equal ones into one."""
    import onnx

    graph = (model := onnx.load(path)).graph
    known = {each.SerializeToString(): each.name for each in graph.initializer}
    renamed: dict[str, str] = {}
    for node in [each for each in graph.node if each.op_type == "Constant" and each.attribute[0].name == "value"]:
        tensor = node.attribute[0].t
        if len(tensor.raw_data) < SMALLEST:
            continue
        tensor.name = ""
        content, own = tensor.SerializeToString(), node.output[0]
        if content not in known:
            tensor.name = known[content] = own
            graph.initializer.append(tensor)
        renamed[own] = known[content]
        graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    onnx.save(model, path)
