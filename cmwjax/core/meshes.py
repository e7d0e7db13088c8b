"""Arrays that are sharded explicitly tell their mesh, where JAX was not told it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
from jax.sharding import AxisType

P = ParamSpec("P")
R = TypeVar("R")


def on_their_mesh(function: Callable[P, R]) -> Callable[P, R]:
    """Makes `function` run on the mesh of the explicitly sharded arrays it is given.

    What it computes from them, gradients of gathers above all, has no sharding that JAX
    could find while it knows no mesh. A mesh set by `jax.set_mesh` stays, as does that
    of a surrounding `jax.shard_map`.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with _mesh_of((args, kwargs)):
            return function(*args, **kwargs)

    return run


def _mesh_of(tree: Any) -> AbstractContextManager:
    if not jax.sharding.get_abstract_mesh().empty:
        return nullcontext()
    for x in jax.tree.leaves(tree):
        if not isinstance(x, jax.Array):
            continue
        mesh = jax.typeof(x).sharding.mesh
        if AxisType.Explicit in mesh.axis_types:
            if isinstance(x, jax.core.Tracer):
                return jax.sharding.use_abstract_mesh(mesh)
            sharding: Any = x.sharding
            return jax.set_mesh(sharding.mesh)
    return nullcontext()
