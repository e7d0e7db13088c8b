"""How far could weighting get? The quickstart's MLP on correctly labelled samples only.

    python benchmarks/oracle.py

Prints the test accuracy in percent, per seed of the quickstart, of an MLP of
the same size trained on the samples whose labels are right, on these and the trusted
ones, on the trusted ones alone, and on all samples with their true labels.
"""

import numpy as np
from sklearn.neural_network import MLPClassifier

from cmwjax.problem import prepare
from configs.quickstart import get_config


def main():
    for seed in (0, 1, 2):
        config = get_config()
        config.seed = seed
        problem = prepare(config)
        right = problem.train_index[~problem.is_wrong[problem.train_index]]
        both = np.concatenate([right, problem.meta_index])
        everyone = np.concatenate([problem.train_index, problem.meta_index])
        sets = {
            "right": right,
            "right and trusted": both,
            "trusted": problem.meta_index,
            "all": everyone,
        }
        scores = (f"{name} {accuracy(problem, i):.1f}" for name, i in sets.items())
        print(f"seed {seed}: {', '.join(scores)}")


def accuracy(problem, index):
    data = problem.dataset
    train, test = (
        x.reshape(len(x), -1) / 255 for x in (data.train_images, data.test_images)
    )
    mlp = MLPClassifier((128, 128), max_iter=200, random_state=0)
    mlp.fit(train[index], data.train_labels[index])
    return 100 * mlp.score(test, data.test_labels)


if __name__ == "__main__":
    main()
