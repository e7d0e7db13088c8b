"""Random training with a step that is not finite: parameters stay so, and it goes on.

    CMWJAX_FUZZ=2000 python -m pytest -n0 tests/test_fuzz.py

tries this many cases in place of the first hundred, each time the same ones.
"""

import contextlib
import os
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optax import contrib

from cmwjax.core.losses import cross_entropy
from cmwjax.core.meta import MetaState, meta_step
from cmwjax.core.micro_batches import micro_batches
from cmwjax.core.reweighting import reweight
from cmwjax.core.weighting import CMWNet, metrics_fn, weight_fn

CASES = int(os.environ.get("CMWJAX_FUZZ", "100"))
STEPS, SIZE, FEATURES, CLASSES = 20, 8, 3, 4
COUNTS = (3, 3, 5, 9)  # samples of each class
DTYPES = ("float16", "bfloat16", "float32", "float64")

OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, 0.9, nesterov=True),
    "decay": optax.chain(optax.add_decayed_weights(1e-2), optax.sgd(0.1)),
    "clip": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, 0.9)),
    "adam": optax.adam(1e-2),
    "adam, eps_root": optax.adam(1e-2, eps_root=1e-4),
    "adamw": optax.adamw(optax.linear_schedule(0, 1e-2, 5), eps_root=1e-4),
    "amsgrad": optax.amsgrad(1e-2, eps_root=1e-4),
    "adafactor": optax.adafactor(1e-2),
    "adagrad": optax.adagrad(0.1),
    "adabelief": optax.adabelief(1e-2),
    "rmsprop": optax.rmsprop(1e-2),
    "radam": optax.radam(1e-2),
    "lamb": optax.lamb(1e-2),
    "lion": optax.lion(1e-2),
    "yogi": optax.yogi(1e-2),
    "novograd": optax.novograd(1e-2),
    "polyak": optax.polyak_sgd(0.1),
    "accumulated": optax.MultiSteps(optax.sgd(0.1), 3),
    "if finite": optax.apply_if_finite(optax.sgd(0.1), 3),
    "plateau": optax.chain(optax.sgd(0.1), contrib.reduce_on_plateau()),
    "prodigy": contrib.prodigy(),
    "dog": contrib.dog(),
    "schedule free": contrib.schedule_free(optax.sgd(0.1), 0.1),
    "frozen": optax.multi_transform(
        {"a": optax.sgd(0.1), "b": optax.set_to_zero()},
        lambda params: {k: "a" if k == "kernel" else "b" for k in params},
    ),
    "NaN once": optax.sgd(lambda count: jnp.where(count == 4, jnp.nan, 0.1)),
}
# Beside the kernel: scalars, leaves without elements, leaves that nobody reads.
LEAVES = {
    "bias": (CLASSES,),
    "scale": (),
    "empty": (0,),
    "empty rows": (2, 0, 3),
    "unused": (2, 2),
    "single": (1, 1, 1),
}


class Program(NamedTuple):
    """What is compiled."""

    dtype: str
    other_dtype: str  # of the leaves beside the kernel
    leaves: tuple[str, ...]
    optimizer: str
    inner_lr: float | None
    label_type: str
    num_families: int
    micro: int
    lean: bool
    normalisation: str
    meta_tx: str | None


def random_programs(number):
    rng = np.random.default_rng(0)
    names = rng.permutation([*OPTIMIZERS] * (number // len(OPTIMIZERS) + 1))
    for name, dtype in zip(names[:number], np.resize(DTYPES, number), strict=True):
        # Optax's norms cannot promote two types of half precision.
        others = [x for x in ("bfloat16", "float32") if dtype != "float16"]
        yield Program(
            dtype=str(dtype),
            other_dtype=str(rng.choice([dtype, *others])),
            leaves=tuple(k for k in LEAVES if rng.random() < 0.4),
            optimizer=str(name),
            inner_lr=rng.choice([None, 0.05, 0.5]),
            label_type=str(rng.choice(["int8", "uint8", "int32", "int64"])),
            num_families=int(rng.integers(1, 4)),
            micro=int(rng.choice([1, 1, 2, 4])),
            lean=bool(rng.random() < 0.3),
            normalisation=str(rng.choice(["mean", "weights"])),
            meta_tx=rng.choice([None, None, "momentum", "adam", "clip"]),
        )


PROGRAMS = list(random_programs(max(8, CASES // 12)))


def loss_fn(params, model_state, batch, key):
    logits = batch["x"].astype(params["kernel"].dtype) @ params["kernel"]
    if "bias" in params:
        logits += params["bias"][None]
    if "scale" in params:
        logits *= params["scale"]
    if "single" in params:
        logits += params["single"][0]
    for name in ("empty", "empty rows"):
        if name in params:
            logits += params[name].sum()
    losses = cross_entropy(logits, batch["label"])
    return losses + batch["poison"].astype(losses.dtype), model_state


def first_params(program):
    rng = np.random.default_rng(1)

    def draw(shape, dtype):
        return jnp.asarray(rng.normal(size=shape)).astype(dtype)

    others = {k: draw(LEAVES[k], program.other_dtype) for k in program.leaves}
    return {"kernel": draw((FEATURES, CLASSES), program.dtype)} | others


def precision(program):
    is_double = "float64" in (program.dtype, program.other_dtype)
    return jax.enable_x64(True) if is_double else contextlib.nullcontext()


@cache
def compiled(program):
    """Its first state and its step; the message if it is refused."""
    losses = micro_batches(loss_fn, program.micro) if program.micro > 1 else loss_fn
    tx, rate = OPTIMIZERS[program.optimizer], program.inner_lr
    meta_tx = None if program.meta_tx is None else OPTIMIZERS[program.meta_tx]
    labels = np.repeat(np.arange(CLASSES), COUNTS).astype(program.label_type)
    try:
        if program.lean:
            init, step = lean(losses, tx, meta_tx or optax.adam(1e-3), program)
        else:
            init, step = reweight(
                losses,
                tx,
                labels=labels,
                num_families=program.num_families,
                inner_lr=rate,
                meta_tx=meta_tx,
                normalisation=program.normalisation,
            )
        state, step = init(first_params(program)), jax.jit(step)
        batch = a_batch(program, np.random.default_rng(0))
        step(state, batch, batch)
        return state, step
    except ValueError as error:
        assert "To go on, " in str(error), error  # a message of ours
        return str(error), None


def lean(losses, tx, meta_tx, program):
    net = CMWNet(program.num_families)
    rate = program.inner_lr
    step = partial(
        meta_step,
        loss_fn=losses,
        weight_fn=weight_fn(net),
        metrics_fn=metrics_fn(net),
        tx=tx,
        meta_tx=meta_tx,
        inner_lr=None if rate is None else optax.constant_schedule(rate),
        lookahead="optimizer" if rate is None else "sgd",
        normalisation=program.normalisation,
        lean=True,
    )

    def init(params):
        one = jnp.zeros(1)
        meta_params = net.init(jax.random.key(0), one, one.astype(int))
        return MetaState.create(
            params=params, meta_params=meta_params, tx=tx, meta_tx=meta_tx
        )

    return init, step


def a_batch(program, rng):
    label = rng.integers(CLASSES, size=SIZE)
    return {
        "x": rng.normal(size=(SIZE, FEATURES)).astype(np.float32),
        "label": label.astype(program.label_type),
        "family": np.minimum(label, program.num_families - 1).astype(np.int32),
        "poison": np.zeros(SIZE, np.float32),
    }


def not_finite(tree, before):
    """Leaves that have come to hold something not finite."""
    return [
        jax.tree_util.keystr(path)
        for (path, new), old in zip(
            jax.tree.leaves_with_path(tree), jax.tree.leaves(before), strict=True
        )
        if jnp.issubdtype(new.dtype, jnp.inexact)
        and not np.all(np.isfinite(new) | ~np.isfinite(old))
    ]


def learned(state):
    return state._replace(key=None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:only . distinct class sizes")
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
@settings(
    max_examples=CASES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    program=st.sampled_from(PROGRAMS),
    seed=st.integers(0, 2**16),
    bad_step=st.integers(0, STEPS - 5),
    where=st.sampled_from(["batch", "meta_batch", "both"]),
    sample=st.integers(0, SIZE - 1),
    poison=st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_training_stays_finite_and_goes_on(
    program, seed, bad_step, where, sample, poison
):
    with precision(program):
        first, step = compiled(program)
        if step is None:
            return

        def train(poison):
            state, skipped, rng = first, [], np.random.default_rng(seed)
            for number in range(STEPS):
                batch, meta_batch = a_batch(program, rng), a_batch(program, rng)
                if number == bad_step:
                    for name, values in (("batch", batch), ("meta_batch", meta_batch)):
                        if where in (name, "both"):
                            values["poison"][sample] = poison
                state, metrics = step(state, batch, meta_batch)
                skipped.append(int(metrics["skipped"]))
            return state, skipped

        state, skipped = train(poison)
        assert not not_finite(learned(state), learned(first))
        assert skipped[bad_step] == 1
        if all(skipped[bad_step + 1 :]):
            # Some optimizers divide by zero in half precision, whatever the losses.
            _, without = train(0)
            assert all(without[bad_step + 1 :]), (skipped, without)
