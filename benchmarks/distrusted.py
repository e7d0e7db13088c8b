"""The labels of CIFAR-10N that are distrusted most, with their photographs.

    python benchmarks/distrusted.py --embeddings=FILE.npz --photographs=FILE.npz \
        --labels=FILE.npz:aggre_label --to=docs/cifar10n.png

Three people labelled each photograph of CIFAR-10; `aggre_label` is what most of them
said, `worse_label` a wrong one wherever there was one (https://arxiv.org/abs/2110.12088).
`find_label_errors` gets embeddings and these labels, and nothing else. How many of the
first 64 and of the first 1,000 labels are not those of CIFAR-10 is what counts here,
though some of CIFAR-10's own are wrong, too. `x_train` of the first file are embeddings
`[50000, D]`, of the second one photographs `[50000, 32, 32, 3]` with labels `y_train`.
"""

import time

import numpy as np
from absl import app, flags, logging
from sklearn.metrics import average_precision_score, roc_auc_score

import cmwjax
from cmwjax.data.datasets import CLASS_NAMES
from cmwjax.report.plot_style import CORRUPTED, INK, headline, new_figure, styled

_EMBEDDINGS = flags.DEFINE_string("embeddings", None, "embeddings", required=True)
_PHOTOGRAPHS = flags.DEFINE_string("photographs", None, "photographs", required=True)
_LABELS = flags.DEFINE_string("labels", None, "FILE.npz:KEY", required=True)
_CV = flags.DEFINE_integer("cv", 0, "folds; 0: one fit")
_TO = flags.DEFINE_string("to", "", "the figure, .png; none by default")
_COUNT = 64


def main(_):
    logging.set_verbosity(logging.ERROR)
    file, _, key = _LABELS.value.rpartition(":")
    names = np.array(CLASS_NAMES["cifar10"])
    embeddings = np.load(_EMBEDDINGS.value)["x_train"]
    given = names[np.load(file)[key]]
    with np.load(_PHOTOGRAPHS.value) as archive:
        photographs, true = archive["x_train"], names[archive["y_train"].ravel()]
    begin = time.perf_counter()
    options = {"cv": _CV.value} if _CV.value else {}
    issues = cmwjax.find_label_errors(embeddings, given, random_state=0, **options)
    seconds = time.perf_counter() - begin
    wrong = (given != true)[issues["row"]]
    doubt = -issues["label_quality"]
    print(f"{key}: {wrong.mean():.1%} of labels wrong; {seconds:.0f} s")
    for count in (_COUNT, 1000):
        print(f"of the first {count} labels {wrong[:count].mean():.1%}")
    print(f"AUROC {roc_auc_score(wrong, doubt):.3f}")
    print(f"average precision {average_precision_score(wrong, doubt):.3f}")
    if _TO.value:
        top = issues[:_COUNT]
        draw(photographs[top["row"]], top, wrong[:_COUNT]).savefig(_TO.value, dpi=70)


@styled()
def draw(photographs, issues, wrong):
    """Photographs with "given → suggested" above; labels that are wrong in colour."""
    figure = new_figure(12, 4.6)
    grid = figure.subplots(_COUNT // 16, 16).ravel()
    for axes, photograph, issue, is_wrong in zip(
        grid, photographs, issues, wrong, strict=True
    ):
        axes.set_axis_off()
        axes.imshow(photograph, interpolation="nearest")
        axes.set_title(
            f"{issue['given_label']}\n→ {issue['predicted_label']}",
            fontsize=6,
            color=CORRUPTED if is_wrong else INK,
        )
    headline(figure, "Labels of CIFAR-10N that are distrusted most, given → suggested")
    return figure


if __name__ == "__main__":
    app.run(main)
