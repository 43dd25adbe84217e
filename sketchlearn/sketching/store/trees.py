"""How a pytree is built, as JSON."""

from __future__ import annotations

from typing import Any

import jax

from sketchlearn.errors import StoreError


def structure(tree: Any) -> dict:
    """How a pytree is built, as JSON: enough to build trees of dicts, lists and tuples again."""

    def written(entry: Any) -> list[str]:
        return [type(entry).__name__, str(getattr(entry, "key", getattr(entry, "idx", "")))]

    paths = [[written(entry) for entry in path] for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return {"paths": paths, "text": str(jax.tree.structure(tree))}


def rebuild(described: dict, leaves: list[Any]) -> Any:
    """The tree of :func:`structure` with these leaves; ``StoreError`` if it has other containers."""
    for sequence in (list, tuple):
        tree = _nest(list(zip(described["paths"], leaves, strict=True)), sequence)
        if str(jax.tree.structure(tree)) == described["text"]:
            return tree
    raise StoreError(
        f"the parameters are a pytree that cannot be rebuilt from its description ({described['text'][:200]}): "
        "give train= to open_sketch, whose result has the same structure."
    )


def _nest(items: list[tuple[list, Any]], sequence: type) -> Any:
    if len(items) == 1 and not items[0][0]:
        return items[0][1]
    if any(not path for path, _ in items):
        return None
    kind = items[0][0][0][0]
    parts: dict[str, list] = {}
    for path, leaf in items:
        parts.setdefault(path[0][1], []).append((path[1:], leaf))
    built = {key: _nest(inner, sequence) for key, inner in parts.items()}
    return sequence(built.values()) if kind == "SequenceKey" else built
