"""Settings of the weighting net by a short text, and forms of it that were not taken.

A text is OPTIMIZER-RATE-SHARE, then any extras: `adamw-0.003--1-anchored` is what all
configurations have. Some extras are values of fields, the others replace a part of the
package as long as a `variant` is open. Without `anchored`, every family has a weight of
its own for a loss of zero, as in the paper.
"""

import contextlib
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmwjax.bias import meta_set, problem
from cmwjax.core import optimizers, weighting
from cmwjax.core.families import Families, group_classes
from cmwjax.core.initializers import torch_uniform
from cmwjax.core.weighting import CMWNet
from cmwjax.methods import cmw_net
from cmwjax.methods.teacher import Averaging
from cmwjax.training import program, steps

NET = "weighting.optimizer."
# Extras that are fields, and what follows their names in a text.
FIELDS = {
    "flat": ("weighting.start", lambda _: "flat"),
    "decay": (f"{NET}weight_decay", float),
    "families": ("weighting.num_families", int),
    "mean": ("weighting.normalisation", lambda _: "mean"),
    "ema": ("ema.decay", float),
    "last": ("weighting.lookahead_layers", lambda _: "last"),
    "every": ("meta_every", int),
}


def fields_and_variants(text):
    """Fields of the configuration, and extras for `variant`."""
    if text == "default":
        return {}, []
    name, rate, share, *extras = text.replace("--", "-~").split("-")
    fields = {
        f"{NET}name": name,
        f"{NET}learning_rate": float(rate),
        f"{NET}weight_decay": 1e-4 if name == "adam" else 1e-2,
        "meta_set.trusted_share": float(share.replace("~", "-")),
        "weighting.anchored": any(extra.startswith("anchored") for extra in extras),
    }
    others = []
    for extra in extras:
        word = extra.rstrip("0123456789.")
        if word in FIELDS:
            field, value = FIELDS[word]
            fields[field] = value(extra[len(word) :])
        elif extra != "anchored":
            others.append(extra)
    return fields, others


@contextlib.contextmanager
def variant(extras):
    """Puts other forms in the place of a part, as long as it is open."""
    program.build.cache_clear()  # programs are kept by their configuration
    with contextlib.ExitStack() as stack:
        for extra in extras:
            word = extra.rstrip("0123456789.")
            for owner, name, new in REPLACED[word](extra[len(word) :]):
                stack.enter_context(mock.patch.object(owner, name, new))
        yield
    program.build.cache_clear()


def merged(factor):
    """Families of sizes within a factor become one."""

    def group(counts, num_families):
        for k in range(num_families, 0, -1):
            families = group_classes(counts, k)
            ratios = families.centres[1:] / families.centres[:-1]
            if np.all(ratios >= float(factor)):
                break
        return families

    return [(problem, "group_classes", group)]


def continuous(_):
    """One function of the loss and of log(size / median size) of the class."""
    sizes = []

    def group(counts, num_families):
        if num_families == 1:
            return group_classes(counts, 1)
        sizes.append(np.log(counts / np.median(counts)))
        every = np.arange(len(counts), dtype=np.int32)
        return Families(every, np.asarray(counts, float))

    class OfSizes(CMWNet):
        @nn.compact
        def __call__(self, losses, family):
            if self.num_families == 1:
                return CMWNet(1, self.hidden)(losses, family)
            size = jnp.asarray(sizes[-1], jnp.float32)[family]
            layers = []
            for name, fan_in, out in (("shared", 2, self.hidden), ("heads", 100, 1)):
                init = torch_uniform(fan_in)
                layers.append(
                    nn.Dense(out, kernel_init=init, bias_init=init, name=name)
                )
            hidden = nn.relu(layers[0](jnp.stack([losses, size], axis=1)))
            return nn.sigmoid(layers[1](hidden))[:, 0]

        def plain(self, params):
            return _any_params(self.num_families)

    return [(problem, "group_classes", group), (cmw_net, "CMWNet", OfSizes)]


def median(_):
    """Losses over the median loss of their batch."""

    class OfRelativeLoss(CMWNet):
        @nn.compact
        def __call__(self, losses, family):
            losses = losses / (jnp.median(losses) + 1e-3)
            net = CMWNet(self.num_families, self.hidden, self.start, self.anchored)
            return net(losses, family)

        def plain(self, params):
            return _any_params(self.num_families)

    return [(cmw_net, "CMWNet", OfRelativeLoss)]


def _any_params(num_families):
    """Of a net for the file: such functions have none that would mean them."""
    net = CMWNet(num_families, parent=None)
    return net.init(jax.random.key(0), jnp.zeros(1), jnp.zeros(1, int))["params"]


def clipped(norm):
    """The meta-gradient clipped to a norm."""
    build = optimizers.build

    def built(name, learning_rate, **options):
        tx = build(name, learning_rate, **options)
        if callable(learning_rate):
            return tx
        return optax.chain(optax.clip_by_global_norm(float(norm)), tx)

    return [(optimizers, "build", built)]


def corrected(_):
    """A teacher that forgets how it began: the mean over what it has seen."""
    decay_at = Averaging.decay_at

    def of_step(self, step, steps_per_epoch):
        decay = decay_at(self, step, steps_per_epoch)
        return decay * (1 - decay**step) / (1 - decay ** (step + 1))

    return [(Averaging, "decay_at", of_step)]


def within(power):
    """Weights over the mean weight of their family in the batch, to a power."""

    def weight_fn(net):
        def weights(meta_params, losses, batch):
            found = net.apply(meta_params, losses, batch["family"])
            member = jax.nn.one_hot(batch["family"], net.num_families)
            mean = (found @ member + 1e-3) / (member.sum(0) + 1e-3)
            return found * jnp.take(mean, batch["family"]) ** -float(power)

        return weights

    return [(weighting, "weight_fn", weight_fn)]


def in_batch(weight):
    """Trusted samples as rows of the batch with a weight of their own, as 1."""

    def step(state, batch, meta_batch, *, weight_fn, metrics_fn, **options):
        own = len(batch["label"])
        shared = {name: batch[name] for name in batch if name in meta_batch}
        both = jax.tree.map(
            lambda x, y: jnp.concatenate([x, y]),
            shared,
            {name: meta_batch[name] for name in shared},
        )

        def weights(meta_params, losses, _):
            found = weight_fn(meta_params, losses[:own], batch)
            trusted = jnp.full(len(losses) - own, float(weight), found.dtype)
            return jnp.concatenate([found, trusted])

        def metrics(meta_params, losses, _):
            return metrics_fn(meta_params, losses[:own], batch)

        return meta_step(
            state,
            both,
            meta_batch,
            weight_fn=weights,
            metrics_fn=metrics,
            **options | {"trusted_share": 0.0},
        )

    meta_step = steps.meta_step
    return [(steps, "meta_step", step)]


def in_proportion(power):
    """Places of the samples of lowest loss by class size to a power."""

    def lowest_loss(losses, labels, index, *, per_class, num_classes):
        losses, labels = np.asarray(losses), np.asarray(labels)
        sizes = np.bincount(labels[index], minlength=num_classes) ** float(power)
        places = np.round(per_class * num_classes * sizes / sizes.sum()).clip(1)
        chosen = []
        for label, size in enumerate(places.astype(int)):
            members = index[labels[index] == label]
            order = np.argsort(losses[members], kind="stable")
            chosen.append(members[order[:size]])
        return np.sort(np.concatenate(chosen)).astype(np.int32)

    return [(meta_set, "lowest_loss", lowest_loss)]


REPLACED = {
    "merged": merged,
    "continuous": continuous,
    "median": median,
    "clip": clipped,
    "corrected": corrected,
    "within": within,
    "prior": in_proportion,
    "inbatch": in_batch,
    "anchored": lambda logit: [(weighting, "ANCHOR", float(logit))],
}
