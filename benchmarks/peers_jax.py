"""Our side of benchmarks/peers.py: the programs of benchmarks/meta_step.py."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from benchmarks.meta_step import (
    NETS,
    NUM_CLASSES,
    Program,
    environment,
    make_programs,
)
from cmwjax.models.catalogue import build

FORMS = {"ERM": "erm", "meta_step": "meta"}  # name in tables -> program


class Side:
    """What a worker of benchmarks/peers.py does with JAX."""

    def versions(self) -> dict[str, Any]:
        """Packages and hardware."""
        return environment()

    def make(self, name: str, batch_size: int, dtype: str) -> dict[str, Any]:
        """Compiles the steps of a net.

        Returns:
          The problem in PyTorch's terms: `params` and `theta`, arrays in the order in
          which layers are called, and `batch` and `meta_batch`.
        """
        if dtype == "float64":
            jax.config.update("jax_enable_x64", True)
        programs = make_programs(name, batch_size=batch_size)
        self._programs = {f: _cast(programs[key], dtype) for f, key in FORMS.items()}
        self._compiled = {k: p.lower().compile() for k, p in self._programs.items()}
        state, batches = self._programs["meta_step"][1:]
        self._order = _call_order(name, batches[0]["image"])
        return self._learned(state.params, state.meta_params) | {
            "batch": _batch(batches[0]),
            "meta_batch": _batch(batches[1]),
        }

    def calibrate(self, form: str) -> dict[str, Any]:
        """Seconds of one step."""
        self.seconds(form, 1)  # warms up
        return {"seconds": self.seconds(form, 1)}

    def seconds(self, form: str, steps: int) -> float:
        """Of a step, from the given weights on; of several, one more goes before."""
        step, program = self._compiled[form], self._programs[form]
        state = program.state
        if steps > 1:
            jax.block_until_ready(step(state, *program.inputs))
        start = time.perf_counter()
        for _ in range(steps):
            state, _ = step(state, *program.inputs)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / steps

    def after(self, form: str) -> dict[str, list[np.ndarray]]:
        """What one step has learned, and Adam's mean of the meta gradients."""
        program = self._programs[form]
        state, _ = self._compiled[form](program.state, *program.inputs)
        if form == "ERM":
            theta = self._programs["meta_step"].state.meta_params
            return self._learned(state[0], theta) | {"gradient": []}
        gradient = optax.tree.get(state.meta_opt_state, "mu")
        learned = self._learned(state.params, state.meta_params)
        return learned | {"gradient": _gate(gradient)}

    def _learned(self, params, theta):
        return {"params": _net(params, self._order), "theta": _gate(theta)}


def _cast(program: Program, dtype: str) -> Program:
    """The same step of numbers of another type."""

    def cast(x):
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return program._replace(
        state=jax.tree.map(cast, program.state),
        inputs=jax.tree.map(cast, program.inputs),
    )


def _batch(batch: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    """With images `[B, channels, H, W]`."""
    return {k: np.asarray(v) for k, v in batch.items()} | {
        "image": np.moveaxis(np.asarray(batch["image"]), -1, 1)
    }


def _call_order(name: str, images: jax.Array) -> list[tuple[str, ...]]:
    """Paths of the layers with parameters."""
    base, options = NETS.get(name, (name, {}))
    model = build(base, num_classes=NUM_CLASSES, **options)
    paths = []

    def note(call, args, kwargs, context):
        if isinstance(context.module, nn.Conv | nn.BatchNorm | nn.Dense):
            paths.append(context.module.path)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(lambda: model.init(jax.random.key(0), images, False))
    return list(dict.fromkeys(paths))


def _net(params: Any, order: list[tuple[str, ...]]) -> list[np.ndarray]:
    """Parameters of a net as PyTorch has them: `[outputs, inputs, height, width]`."""
    arrays, channels = [], 1
    for path in order:
        layer = params
        for name in path:
            layer = layer[name]
        if "scale" in layer:
            arrays += [layer["scale"], layer["bias"]]
            continue
        kernel = layer["kernel"]
        if kernel.ndim == 2:
            # A flattened image has its channels last here and first in PyTorch.
            by_channel = kernel.reshape(-1, channels, kernel.shape[1]).swapaxes(0, 1)
            kernel = by_channel.reshape(kernel.shape)
        arrays.append(np.moveaxis(kernel, (-1, -2), (0, 1)))
        arrays += [layer["bias"]] if "bias" in layer else []
        channels = kernel.shape[-1]
    return [np.array(x) for x in arrays]


def _gate(theta: Any) -> list[np.ndarray]:
    """Parameters of V as PyTorch has them."""
    layers = [theta["params"][name] for name in ("shared", "heads")]
    return [np.array(x) for y in layers for x in (y["kernel"].T, y["bias"])]
