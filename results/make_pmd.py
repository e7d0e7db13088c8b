"""Makes feature-dependent labels (PMD, paper 5.3) for a data set that has none.

    CMWJAX_DATA_DIR=FOLDER python results/make_pmd.py --to=runs/pmd.npz
    ... python run.py --config=configs/fashion_mnist.py:labels=runs/pmd.npz:type1_035

A small conv net learns the true labels of all training images; what it then says of
them decides which labels move, and where to. The archive has labels of three types at
two rates each, `type1_035` to `type3_070`, in the order of the images, and the true
labels, by which `cmwjax.data.label_sets` sees that it belongs to the data set. The
probabilities are those of the finished net on the images as they are; the paper's came
out of the last epoch of training, on augmented images.
"""

import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from absl import app, flags, logging
from flax.traverse_util import unflatten_dict

from cmwjax import train
from cmwjax.bias import pmd
from cmwjax.config import base_config
from cmwjax.data import datasets
from cmwjax.data.view import pixel_statistics
from cmwjax.files import replacing
from cmwjax.models import catalogue as models
from cmwjax.training import checkpoints

RATES = (35, 70)  # per cent of wrong labels, as in the paper
CHUNK = 1000  # images that are judged at once


def main(_):
    logging.set_verbosity(logging.WARNING)
    try:
        write(flags.FLAGS.to, config=classifier(flags.FLAGS.data, flags.FLAGS.seed))
    except ValueError as error:
        sys.exit(f"error: {error}")


def classifier(name, seed=0):
    """The run that gives the class probabilities: short, so that they stay apart."""
    config = base_config()
    config.method = "erm"
    config.seed = seed
    config.epochs = 3
    config.checkpoint.every_steps = 0
    config.data.name = name
    config.data.batch_size = 128
    config.meta_set.policy = "lowest_loss"  # which holds no image out
    config.weighting.num_families = 1  # nothing is weighted
    config.model.name, config.model.options = "small_conv", {}
    config.optim.learning_rate = 0.02
    config.optim.schedule.name = "cosine"
    return config


def write(path, *, config):
    """Trains a classifier and writes PMD labels of all training images.

    Args:
      path: the archive, a new `.npz` file.
      config: of the classifier; its seed is that of the draws, too.

    Raises:
      ValueError: if the file exists, or the data set is unfit.
    """
    path = Path(path)
    if path.suffix != ".npz" or path.exists():
        raise ValueError(f"{path} exists or is no .npz file: name a new one.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder, "run")
        result = train.run(config, workdir)
        eta = class_probabilities(config, workdir)
    true_labels = datasets.load(config.data.name).train_labels
    print(
        f"{path}: from a net that is right on {result.test_score:.1%} of the test "
        f"set, after {result.seconds:.0f} s"
    )
    arrays = {"clean_label": true_labels.astype(np.int16)}
    for kind in pmd.KINDS:
        for rate in RATES:
            factor = pmd.calibrate(eta, true_labels, kind=kind, rate=rate / 100)
            labels = pmd.generate(eta, kind=kind, factor=factor, seed=config.seed)
            arrays[f"{kind}_{rate:03}"] = labels.astype(np.int16)
            wrong = np.mean(labels != true_labels)
            print(f"  {kind}_{rate:03}: {wrong:.2%} wrong, factor {factor:.3f}")
    with replacing(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)


def class_probabilities(config, workdir):
    """What the classifier of a finished run says of all training images.

    In evaluation mode after the last epoch, `[N, C]`.
    """
    dataset = datasets.load(config.data.name)
    model = models.build(
        config.model.name, num_classes=dataset.num_classes, **config.model.options
    )
    [last] = (workdir / "checkpoints").iterdir()
    saved = unflatten_dict(checkpoints.read(last), sep="/")["run"]["learner"]
    variables = {"params": saved["params"], **saved.get("model_state", {})}
    mean, std = (x.reshape(1, 1, 1, -1) for x in pixel_statistics(dataset.train_inputs))

    @jax.jit
    def predict(images):
        logits = model.apply(variables, (images / 255 - mean) / std, False)
        return jax.nn.softmax(logits)

    starts = range(0, len(dataset.train_inputs), CHUNK)
    parts = [predict(dataset.train_inputs[i : i + CHUNK]) for i in starts]
    return np.concatenate(parts)


if __name__ == "__main__":
    flags.DEFINE_string("to", "runs/pmd.npz", "the archive to write, a new file")
    flags.DEFINE_string("data", "fashion_mnist", "data set, as config.data.name")
    flags.DEFINE_integer("seed", 0, "of the classifier and of the draws")
    app.run(main)
