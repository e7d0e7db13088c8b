"""Headlines with wrong labels: texts and their topics from .csv or .tsv files.

    python run.py --config=configs/text.py:data=FILE.tsv,text=COLUMN,test=FILE.tsv
    ... --config=configs/text.py:data=FILE.tsv,text=COLUMN,test=FILE.tsv,truth=FILE.tsv
    ... --config=configs/text.py:data=FILE.tsv,text=COLUMN,trusted=FILE.tsv
    ... --config=configs/text.py:data=FILE.tsv,text=COLUMN,embed=wordllama
    python run.py --config=configs/text.py:smoke

`data` has the texts to train on and labels of which some are wrong, in the column
`label` or a column named label, class or target; `test` others to test with (else a
quarter of `data`), `trusted` a few whose labels are right, and `truth` the texts of
`data` with the right labels, where somebody knows them: then the table says how well
wrong ones are found. Without trusted texts, the meta set is what the classifier finds
easiest. A text is the mean of what its words and their parts say, as in fastText; with
`embed`, of what a language model has learned that its words mean, and an MLP learns
from that (`pip install 'cmwjax[texts]'`, which knows English best).
`smoke`, and no file at all, is on made-up headlines whose labels are wrong on purpose.
"""

from cmwjax.config import base_config
from configs.common import (
    FILES,
    is_file,
    methods_of,
    parse_arg,
    set_files,
    set_noise,
)


def get_config(arg=None):
    arg = parse_arg(
        arg,
        data="headlines",
        text="text",
        embed="",
        **FILES,
        methods="erm+mw_net+cmw_net",
        seeds=3,
        smoke=False,
    )
    config = base_config()
    config.compare.methods = methods_of(arg["methods"])
    config.compare.seeds = tuple(range(arg["seeds"]))
    if not is_file(arg["data"]):
        set_noise(config, "sym", 0.4)
    set_files(config, arg, held_out=False)
    if is_file(arg["data"]):
        config.data.csv.text, config.data.csv.length = arg["text"], 256
    config.data.batch_size, config.meta_set.batch_size = 52, 52
    config.model.name = "text"
    config.model.options = {"embedding": 64, "hidden": ()}
    config.epochs = 10
    config.optim.name = "adam"  # the mean over a text leaves small gradients
    config.optim.learning_rate, config.optim.weight_decay = 1e-2, 0.0
    config.optim.schedule.name = "cosine"
    if arg["embed"]:
        config.data.embed = arg["embed"]
        config.model.name = "mlp"
        config.model.options = {"hidden": (256,), "dropout": 0.5}
        config.optim.name, config.optim.learning_rate = "sgd", 0.03
    if arg["smoke"]:
        config.compare.seeds, config.epochs = (0,), 5
    return config
