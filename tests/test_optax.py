"""Every optimizer of Optax: it works as docs/optimizers.md says, or is refused."""

import inspect
import re
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from cmwjax.core.meta import MetaState, meta_step

TABLE = Path(__file__).parents[1] / "docs" / "optimizers.md"
RATE = 0.01
NORMALISED = optax.chain(contrib.normalize(), optax.sgd(0.05))
# Those that need more than a learning rate, or none.
MADE = {
    "cocob": contrib.cocob,
    "dadapt_adamw": contrib.dadapt_adamw,
    "dog": contrib.dog,
    "dowg": contrib.dowg,
    "dpsgd": partial(
        contrib.dpsgd, RATE, l2_norm_clip=1.0, noise_multiplier=0.1, seed=0
    ),
    "lbfgs": optax.lbfgs,
    "mechanize": partial(contrib.mechanize, optax.sgd(0.1)),
    "momo": contrib.momo,
    "momo_adam": contrib.momo_adam,
    "noisy_sgd": partial(optax.noisy_sgd, RATE, key=0),
    "polyak_sgd": optax.polyak_sgd,
    "prodigy": contrib.prodigy,
    "reduce_on_plateau": lambda: optax.chain(
        optax.sgd(0.1), contrib.reduce_on_plateau()
    ),
    "sam": partial(contrib.sam, optax.sgd(0.1), NORMALISED),
    "sam(opaque_mode)": partial(
        contrib.sam, optax.sgd(0.1), NORMALISED, opaque_mode=True
    ),
    "schedule_free": partial(contrib.schedule_free, optax.sgd(0.1), 0.1),
    "MultiSteps": partial(optax.MultiSteps, optax.sgd(0.1), 3),
    "apply_every": lambda: optax.chain(optax.sgd(0.1), optax.apply_every(3)),
    "apply_if_finite": partial(optax.apply_if_finite, optax.sgd(0.1), 3),
    "scale_by_backtracking_linesearch": lambda: optax.chain(
        optax.sgd(0.1), optax.scale_by_backtracking_linesearch(5)
    ),
}


def make(name, **kwargs):
    if name in MADE:
        return MADE[name](**kwargs)
    return getattr(optax, name, getattr(contrib, name, None))(RATE, **kwargs)


def rows():
    """{optimizer: (as its own lookahead, under plain SGD)}, as the page has it."""
    lines = re.findall(r"^\| `(.*?)` \| (.*?) \| (.*?) \|$", TABLE.read_text(), re.M)
    return {name: tuple(cells) for name, *cells in lines}


# --- a problem with all that optimizers stumble over ---------------------------------


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 3)).astype(np.float32)
    return {"x": x, "y": rng.choice([-1, 1], 16).astype(np.float32)}


def params():
    rng = np.random.default_rng(1)
    return {
        "kernel": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
        "bias": jnp.zeros(4),
        "head": jnp.asarray(rng.normal(size=4), jnp.float32),
        "unused": jnp.ones((2, 2)),
    }


def loss_fn(params, model_state, batch, key):
    hidden = jax.nn.relu(batch["x"] @ params["kernel"] + params["bias"][None])
    outputs = hidden @ (jnp.array([1.0, 0, 1, 1]) * params["head"])  # a dead unit
    return jax.nn.softplus(-batch["y"] * outputs), model_state


def train(tx, lookahead, steps=6):
    """Final parameters, and per step whether it was good and its meta-gradient."""
    meta_tx = optax.sgd(0.1)
    step = jax.jit(
        partial(
            meta_step,
            loss_fn=loss_fn,
            weight_fn=lambda theta, losses, batch: jax.nn.sigmoid(theta * losses),
            tx=tx,
            meta_tx=meta_tx,
            inner_lr=optax.constant_schedule(0.1),
            lookahead=lookahead,
        )
    )
    state = MetaState.create(
        params=params(), meta_params=jnp.ones(()), tx=tx, meta_tx=meta_tx
    )
    rows = []
    for _ in range(steps):
        state, metrics = step(state, data(), data())
        rows.append((int(metrics["skipped"]), float(metrics["meta_grad_norm"])))
    return state.params, rows


@cache
def outcome(name, lookahead, **kwargs):
    """'yes', or the message of the error."""
    try:
        final, rows = train(make(name, **dict(kwargs)), lookahead)
    except ValueError as error:
        return str(error)
    assert not any(skipped for skipped, _ in rows)
    # Adopt's first update is always zero.
    assert all(norm > 0 for _, norm in rows[1:])
    assert all(np.isfinite(leaf).all() for leaf in final.values())
    assert any(np.any(final[k] != params()[k]) for k in final)
    return "yes"


@pytest.mark.filterwarnings("ignore:.* is deprecated")  # of Optax, of its own
@pytest.mark.parametrize("name", rows())
def test_it_is_as_the_table_says(name):
    own, plain = rows()[name]
    message = outcome(name, "sgd")
    if plain == "yes":
        assert message == "yes"
    else:
        assert plain.removeprefix("no: ") in message
    message = outcome(name, "optimizer")
    if own == "yes":
        assert message == "yes"
    elif own == "with `eps_root`":
        assert "exactly zero" in message and "give it an eps_root > 0" in message
        assert outcome(name, "optimizer", eps_root=1e-16) == "yes"
    else:
        assert own.removeprefix("no: ") in message
        assert "eps_root" not in message
        assert (own == plain) != ("lookahead='sgd' with an inner_lr" in message)


def test_the_table_has_every_optimizer():
    found = {
        name
        for module in (optax, contrib)
        for name, function in vars(module).items()
        if not name.startswith(("scale_by", "_"))
        and inspect.isfunction(function)
        and "learning_rate" in inspect.signature(function).parameters
    }
    assert len(found) > 30
    assert sorted(found - rows().keys()) == []
