"""How a step is laid over devices and hosts: pmap by default, or shard_map, or jit."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = "data"
MODES = ("pmap", "shard_map", "jit")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Devices of all processes in one row; state on each, batches cut along it.

    Parts of the state may be cut as well: `cut` says which, by a truth value, or a tree
    of them that the state continues. They are arrays `[S, ...]`, of which device d has
    the d-th of equal consecutive parts; what maps over devices sees its own part.

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

    def place(self, tree: Any, cut: Any = False) -> Any:
        """As `replicate`, but cuts what is to be; S is a multiple of the devices."""

        def put(is_cut, part):
            if not is_cut:
                return self.replicate(part)
            # A copy, for a device may take the memory of the host for its own.
            own = jax.tree.map(lambda x: np.array(x[self.own(len(x))]), part)
            return self.split_own(own)

        return jax.tree.map(put, cut, tree)

    def gathered(self, tree: Any, cut: Any = False) -> Any:
        """The state with what was cut whole again, as host arrays; the rest as it is.

        All processes must call it, and all get everything.
        """

        def whole(is_cut, part):
            return jax.tree.map(self._joined, part) if is_cut else part

        return jax.tree.map(whole, cut, tree)

    def _joined(self, x):
        shape = x.shape
        if self.mode == "pmap":  # of this process, devices come first
            shape = (len(self.devices), *shape[1:])
        everywhere = jax.make_array_from_single_device_arrays(
            shape,
            NamedSharding(self.mesh, P(AXIS)),
            [shard.data for shard in x.addressable_shards],
        )
        host = multihost_utils.process_allgather(everywhere, tiled=True)
        return host.reshape(-1, *shape[2:]) if self.mode == "pmap" else host

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
        cut: Any = False,
    ) -> Callable[..., Any]:
        """Compiles `step(state, *tables, *batches) -> state`.

        State (donated) and tables are replicated, batches split; what comes back is
        replicated, and any tree where nothing is `cut`. What is cut of the state is so
        before and after. With `stacked`, batches come from `stack`, and the step sees
        leaves `[steps, B, ...]`.
        """

        def by_part(if_cut, if_not):
            return jax.tree.map(lambda is_cut: if_cut if is_cut else if_not, cut)

        if self.mode == "pmap":
            return jax.pmap(
                step,
                AXIS,
                in_axes=(by_part(0, None), *(None,) * num_tables, *(0,) * num_batches),
                out_axes=by_part(0, None),
                donate_argnums=0,
                devices=self.devices,
            )
        axes = P(None, AXIS) if stacked else P(AXIS)
        if self.mode == "shard_map":
            step = jax.shard_map(
                step,
                mesh=self.mesh,
                in_specs=(
                    by_part(P(AXIS), P()),
                    *(P(),) * num_tables,
                    *(axes,) * num_batches,
                ),
                out_specs=by_part(P(AXIS), P()),
                check_vma=False,  # the step reduces by itself, as under pmap
            )
        whole, by_shard, rows = (
            NamedSharding(self.mesh, spec) for spec in (P(), P(AXIS), axes)
        )
        state = by_part(by_shard, whole)
        return jax.jit(
            step,
            in_shardings=(state, *(whole,) * num_tables, *(rows,) * num_batches),
            out_shardings=state,
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
