"""What a frozen net says of photographs, and a small head trained on that.

    python run.py --config=configs/embeddings.py:data=FILE.npz
    ... --config=configs/embeddings.py:data=folder:PATH,embed=efficientnet_lite0
    ... --config=configs/embeddings.py:data=FILE.npz,noise=asym,rate=0.6,validation=0.1
    ... --config=configs/embeddings.py:data=FILE.npz,labels=LABELS.npz:KEY
    python run.py --config=configs/embeddings.py:smoke

PATH has photographs in train/CLASS/ and test/CLASS/, or `data` is a file or name of
images; `embed` is the net that looks at them, once, at `size` pixels per side
(`pip install 'cmwjax[photos]'`; about 200 images a second on two CPU cores). Without
`embed`, FILE.npz has embeddings x_train [N, D] and x_test, and classes y_train and
y_test. Rows are standardised by the training rows. So tens of thousands of photographs
train in seconds.
Without `labels`, 60 % of the samples of four classes are called another class
(`noise=none` leaves all labels right); `per_class` samples of each class keep their
right labels, are the meta set, and training never visits them (`meta=lowest_loss` does
without). `smoke`, and no file at all, is on scikit-learn's digits.
"""

from cmwjax.config import base_config
from cmwjax.defaults import of_methods
from configs.common import BIAS, methods_of, parse_arg, set_bias


def get_config(arg=None):
    arg = parse_arg(
        arg,
        data="digits",
        embed="",
        size=96,
        methods="erm+mw_net+cmw_net",
        meta="held_out",
        per_class=100,
        validation=0.0,
        seeds=3,
        smoke=False,
        **BIAS | {"noise": "auto", "rate": 0.6},
    )
    if arg["noise"] == "auto":
        noise = "asym" if arg["labels"] == "true" else "none"
        arg |= {"noise": noise, "rate": arg["rate"] * (noise != "none")}
    config = base_config()
    set_bias(config, arg)
    config.compare.methods = methods_of(arg["methods"])
    config.compare.seeds = tuple(range(arg["seeds"]))
    config.data.name = arg["data"]
    config.data.embed, config.data.embed_size = arg["embed"], arg["size"]
    config.data.validation = arg["validation"]
    config.data.batch_size = config.meta_set.batch_size = 128
    config.meta_set.policy = arg["meta"]
    config.meta_set.per_class = arg["per_class"]
    config.warmup_epochs = int(arg["meta"] == "lowest_loss")
    config.model.options = {"hidden": (256,), "dropout": 0.5}
    config.epochs = 12
    config.optim.learning_rate = 0.03
    config.optim.schedule.name = "cosine"
    config.compare.tuned = of_methods(config.epochs)
    if arg["smoke"] or arg["data"] == "digits":
        config.meta_set.per_class = min(arg["per_class"], 10)
    if arg["smoke"]:
        config.compare.seeds = (0,)
    return config
