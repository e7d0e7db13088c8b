"""Digits whose labels are wrong in a way that makes class sizes differ.

    python run.py
    python run.py --config=configs/quickstart.py:rate=0.8,meta=lowest_loss,seeds=10

60 % of the samples of digits 9, 2, 4 and 3 are called 1, 0, 7 and 5. The grown classes
are full of wrong labels, the shrunk ones have none: what a large loss means depends
on the size of the class. `meta=lowest_loss` does without the 100 trusted samples.
"""

from cmwjax.config import base_config
from configs.common import methods_of, parse_arg


def get_config(arg=None):
    methods = "erm+mw_net+cmw_net"
    arg = parse_arg(arg, rate=0.6, meta="held_out", methods=methods, seeds=3)
    config = base_config()
    config.compare.methods = methods_of(arg["methods"])
    config.compare.seeds = tuple(range(arg["seeds"]))
    config.epochs = 60
    config.noise.kind = "asymmetric"
    config.noise.rate = arg["rate"]
    config.noise.class_map = ((9, 1), (2, 0), (4, 7), (3, 5))
    config.meta_set.policy = arg["meta"]
    config.optim.schedule.name = "cosine"
    return config
