"""How a step is laid over devices and hosts: pmap by default, or shard_map, or jit."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = "data"
MODES = ("pmap", "shard_map", "jit")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Devices of all processes in one row; state on each, batches cut along it.

    Attributes:
      mode: `'pmap'` or `'shard_map'`, the step sees its device's slice and reduces
        over `axis_name`; or `'jit'`, it sees global arrays and the compiler inserts the
        reductions. All give the same result.
      devices: the devices, those of one process next to each other.
    """

    mode: str
    devices: tuple[jax.Device, ...]

    @property
    def axis_name(self) -> str | None:
        """What the step must reduce over by name."""
        return None if self.mode == "jit" else AXIS

    @property
    def mesh(self) -> jax.sharding.Mesh:
        """All devices, along `AXIS`."""
        return _mesh(self.devices)

    @property
    def _local_devices(self):
        own = jax.process_index()
        return [d for d in self.devices if d.process_index == own]

    @property
    def _local_mesh(self):
        return _mesh(self._local_devices)

    @property
    def replicated(self) -> NamedSharding:
        """Sharding of the state and of tables that every device holds."""
        # pmap would move, and then be unable to donate, what lies elsewhere.
        mesh = self._local_mesh if self.mode == "pmap" else self.mesh
        return NamedSharding(mesh, P())

    def replicate(self, tree: Any) -> Any:
        """Puts a tree of host or device arrays, equal on all processes, everywhere.

        The result shares no buffer with its argument: it may be donated.
        """

        def put(x):
            x = np.asarray(x)
            return jax.make_array_from_callback(
                x.shape, self.replicated, lambda i: x[i]
            )

        return jax.tree.map(put, tree)

    def split(self, batch: Any) -> Any:
        """Global host batch, leaves `[B, ...]`, equal on all processes -> step's form.

        The rows of device d are the d-th of equal consecutive parts.
        """
        if self.mode != "pmap":
            return self.spread(batch)
        return jax.tree.map(
            lambda x: self._by_device(x[self.own(len(x))]),  # pmap places it
            batch,
        )

    def split_own(self, batch: Any) -> Any:
        """As `split`, but of the rows `own(B)` alone, and placed on their devices."""
        if self.mode != "pmap":
            return self.spread_own(batch)
        sharding = NamedSharding(self._local_mesh, P(AXIS))
        return jax.tree.map(
            lambda x: jax.device_put(self._by_device(x), sharding), batch
        )

    def spread(self, batch: Any) -> Any:
        """As `split`, but global arrays in either mode."""
        sharding = NamedSharding(self.mesh, P(AXIS))
        return jax.tree.map(
            lambda x: jax.make_array_from_callback(
                np.shape(x), sharding, lambda i: x[i]
            ),
            batch,
        )

    def spread_own(self, batch: Any) -> Any:
        """As `spread`, but of the rows `own(B)` alone."""
        sharding = NamedSharding(self.mesh, P(AXIS))
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(sharding, x), batch
        )

    def own(self, size: int) -> slice:
        """Rows of a global batch of this size that lie on this process's devices."""
        part, local = size // len(self.devices), self._local_devices
        first = self.devices.index(local[0]) * part
        return slice(first, first + len(local) * part)

    def _by_device(self, x):
        return x.reshape(len(self._local_devices), -1, *x.shape[1:])

    def stack(self, batches: Sequence[Any]) -> Any:
        """Batches of several steps, each as `split` gives it -> one stacked tree."""
        if self.mode == "pmap":  # devices come first
            return jax.tree.map(lambda *x: np.stack(x, axis=1), *batches)
        sharding = NamedSharding(self.mesh, P(None, AXIS))
        return jax.jit(
            lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees),
            out_shardings=sharding,
        )(list(batches))

    def map(
        self,
        step: Callable[..., Any],
        *,
        num_tables: int,
        num_batches: int,
        stacked: bool = False,
    ) -> Callable[..., Any]:
        """Compiles `step(state, *tables, *batches) -> (state, metrics)`.

        State (donated) and tables are replicated, batches split; what comes back is
        replicated. With `stacked`, batches come from `stack`, and the step sees leaves
        `[steps, B, ...]`.
        """
        if self.mode == "pmap":
            return jax.pmap(
                step,
                AXIS,
                in_axes=(None,) * (1 + num_tables) + (0,) * num_batches,
                out_axes=None,
                donate_argnums=0,
                devices=self.devices,
            )
        axes = P(None, AXIS) if stacked else P(AXIS)
        if self.mode == "shard_map":
            step = jax.shard_map(
                step,
                mesh=self.mesh,
                in_specs=(P(),) * (1 + num_tables) + (axes,) * num_batches,
                out_specs=P(),
                check_vma=False,  # the step reduces by itself, as under pmap
            )
        whole, cut = (NamedSharding(self.mesh, spec) for spec in (P(), axes))
        return jax.jit(
            step,
            in_shardings=(whole,) * (1 + num_tables) + (cut,) * num_batches,
            out_shardings=whole,
            donate_argnums=0,
        )

    def as_global(self, tree: Any) -> Any:
        """Replicated arrays as global ones, which every process can save or read."""
        sharding = NamedSharding(self.mesh, P())
        return jax.tree.map(
            lambda x: jax.make_array_from_single_device_arrays(
                x.shape, sharding, [s.data for s in x.addressable_shards]
            ),
            tree,
        )


def layout(mode: str = "pmap", devices: Sequence[jax.Device] | None = None) -> Layout:
    """Layout over the given devices, by default all of them.

    Raises:
      ValueError: if the mode is unknown.
    """
    if mode not in MODES:
        raise ValueError(f"parallel={mode!r} is unknown; choose one of {MODES}.")
    return Layout(mode, tuple(jax.devices() if devices is None else devices))


def _mesh(devices):
    return jax.sharding.Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
