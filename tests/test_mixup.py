"""MixUp against a loop over pairs."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from cmwjax.core.losses import cross_entropy, soft_cross_entropy
from cmwjax.methods import mixup


def test_partners_stay_in_their_shard_wherever_it_lies():
    key = jax.random.key(0)
    everyone = np.asarray(mixup.partners(key, shard_size=5, first=0, count=4))
    for shard in range(4):
        part = everyone[5 * shard : 5 * shard + 5]
        np.testing.assert_array_equal(np.sort(part), np.arange(5) + 5 * shard)
    for shard in (0, 2):  # two devices
        here = mixup.partners(key, shard_size=5, first=shard, count=2)
        np.testing.assert_array_equal(
            here + 5 * shard, everyone[5 * shard : 5 * shard + 10]
        )
    inside = everyone.reshape(4, 5) - 5 * np.arange(4)[:, None]
    assert len(np.unique(inside, axis=0)) > 1  # shards are shuffled on their own
    assert np.any(
        mixup.partners(jax.random.key(1), shard_size=5, first=0, count=4) != everyone
    )


def test_shares_are_beta_folded_at_one_half():
    keys = jax.random.split(jax.random.key(0), 2000)
    shares = np.asarray(jax.vmap(lambda k: mixup.share(k, 0.4))(keys))
    assert shares.min() >= 0.5

    def folded(x):  # P(max(lam, 1 - lam) <= x)
        beta = stats.beta(0.4, 0.4)
        return beta.cdf(x) - beta.cdf(1 - x)

    assert stats.kstest(shares, folded).pvalue > 1e-3


def test_losses_and_weights_are_those_of_pairs():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(4, 2, 2, 1)).astype("f")
    label, weight = np.array([0, 1, 2, 1]), np.array([0.9, 0.1, 0.6, 0.3], "f")
    partner, lam = np.array([2, 0, 1, 3]), 0.7
    batch = {"input": image, "label": label, "weight": weight}
    mixed = mixup.mix(jax.tree.map(jnp.asarray, batch), jnp.float32(lam), partner)
    logits = mixed["input"].reshape(4, 4)[:, :3]
    seen = []

    def weight_fn(meta_params, losses, batch):
        seen.append(losses)
        return meta_params * batch["weight"]

    losses = mixup.mixed_losses(lambda z, b: cross_entropy(z, b["label"]))(
        logits, mixed
    )
    weights = mixup.mixed_weights(weight_fn)(2.0, losses, mixed)
    for i, j in enumerate(partner):
        z = (lam * image[i] + (1 - lam) * image[j]).ravel()[:3]
        log_p = z - np.log(np.exp(z).sum())
        np.testing.assert_allclose(
            losses[i], [-log_p[label[i]], -log_p[label[j]]], rtol=1e-5
        )
        want = [2 * lam * weight[i], 2 * (1 - lam) * weight[j]]
        np.testing.assert_allclose(weights[i], want, rtol=1e-5)
    np.testing.assert_array_equal(seen[0], losses[:, 0])  # of the sample's own label
    # With weights of one it is the cross entropy of mixed labels.
    ones = mixup.mixed_weights(lambda m, v, b: jnp.ones_like(v))({}, losses, mixed)
    target = lam * np.eye(3)[label] + (1 - lam) * np.eye(3)[label[partner]]
    np.testing.assert_allclose(
        np.sum(ones * losses, axis=1), soft_cross_entropy(logits, target), rtol=1e-5
    )
