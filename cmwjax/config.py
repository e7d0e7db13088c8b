"""Every field of a run's configuration, and its default; see also `config_check`."""

from ml_collections import ConfigDict

from cmwjax.methods.catalogue import default_options


def base_config() -> ConfigDict:
    """The defaults; files in `configs/` change some of them."""
    config = ConfigDict()
    config.method = "cmw_net"  # a key of `cmwjax.methods.catalogue.METHODS`
    config.task = "classification"  # a key of `cmwjax.tasks.catalogue.TASKS`
    config.seed = 0  # governs noise, meta set, initial parameters and order alike
    config.epochs = 60
    config.loss = "cross_entropy"  # what methods weight that have no loss of their own
    config.warmup_epochs = 0  # before weights, MixUp and corrected labels or losses
    # Epochs between looks at all training samples: how well their labels suit them, in
    # the mean, is the quality that `samples.csv` ranks by. 0: it looks at the end only.
    config.audit_every = 1
    config.meta_every = 1  # P: a meta step every P steps, weighted steps between
    config.parallel = "pmap"
    # Steps that are dispatched together, of images in memory. More than one is for
    # accelerators: XLA's convolutions are slow inside of its loops on CPUs.
    config.steps_per_call = 1

    config.max_skips_in_a_row = 100  # updates that are not finite; then the run stops
    config.checkpoint = ConfigDict({"every_steps": 500, "keep": 2})  # 0: when it ends

    # With methods and seeds here, run.py makes one run of each and compares them. A
    # method may come more than once, as METHOD@NAME with fields of its own.
    config.compare = ConfigDict({"methods": (), "seeds": ()})
    config.compare.tuned = ConfigDict()  # method or METHOD@NAME -> fields that differ

    config.data = ConfigDict()
    # Or another embedded set, cifar10, fashion_mnist, a Keras-style .npz file, a .csv
    # or .tsv file; or images that stay on disk:
    # 'folder:PATH', 'tfds:NAME' (see `cmwjax.data.on_disk`), webvision/mini.
    config.data.name = "digits"
    config.data.train_size = 0  # 0: all; else a stratified draw
    config.data.imbalance_factor = 1.0  # of a long tail: largest over smallest class
    # 'true', 'given' if nobody knows whether the data set's own labels are right, or a
    # label set, as 'human_worse', 'FILE.npz:KEY'.
    config.data.labels = "true"
    config.data.standardise = "own"  # by its training pixels; or as for 'imagenet'
    config.data.validation = (
        0.0  # share (< 1) or number to validate with, noise and all
    )
    config.data.seed = -1  # who is in which set, and the long tail; -1: config.seed
    config.data.batch_size = 100
    config.data.shards = 4  # virtual shards; a multiple of the number of devices

    config.data.csv = _csv()
    config.data.stream = _stream()

    config.noise = ConfigDict()
    config.noise.kind = "none"
    config.noise.rate = 0.0
    # Of asymmetric noise: ((from, to), ...) or a name, 'cifar10' or 'cifar10_two_way'.
    config.noise.class_map = ("cifar10",)
    config.noise.seed = -1  # -1: config.seed; else one draw for all runs

    config.meta_set = ConfigDict()
    config.meta_set.policy = "held_out"
    config.meta_set.per_class = 10
    config.meta_set.batch_size = 100
    # Share of trusted samples in what the classifier learns at a meta step, where the
    # policy has some; 0: they only teach the weighting net, as in the paper.
    config.meta_set.trusted_share = 0.0

    config.model = ConfigDict({"name": "mlp", "options": ConfigDict()})
    config.model.options.hidden = (128, 128)
    config.model.weights = ""  # .safetensors file that the classifier starts from

    config.weighting = ConfigDict()
    # A weighting function to apply as it is, without any meta step: a file written by
    # an earlier run, or the authors' .npz or .pth.
    config.weighting.load = ""
    config.weighting.num_families = 3
    config.weighting.hidden = 100
    config.weighting.start = "torch"
    config.weighting.optimizer = ConfigDict()
    # Or amsgrad; sgd, which reads the next two; or adamw: Adam's own decay, that of the
    # paper, takes over when the classifier's learning rate falls, which the
    # meta-gradient is proportional to, and weights end at 0.5.
    config.weighting.optimizer.name = "adam"
    config.weighting.optimizer.momentum = 0.9
    config.weighting.optimizer.nesterov = True
    config.weighting.optimizer.learning_rate = 1e-3
    config.weighting.optimizer.weight_decay = 1e-4
    config.weighting.normalisation = "mean"
    config.weighting.lookahead = "sgd"

    config.augment = ConfigDict()
    config.augment.pad = 0  # pixels by which training images are shifted at most
    config.augment.mode = "reflect"  # or zero: what comes in from outside
    config.augment.flip = False  # left and right
    config.augment.meta = False  # whether the meta set's images are augmented too

    # Of the methods that use them.
    config.mixup = ConfigDict()
    config.mixup.alpha = 1.0  # of Beta(alpha, alpha); 0: images stay as they are
    config.mixup.second_weight = "permuted"  # or mixed, see `mixup.mixed_weights`
    config.mixup.meta_alpha = 0.0  # of the meta batch; 0: not mixed
    config.ema = ConfigDict()
    config.ema.decay = 0.997
    # Whether batch statistics are averaged too. The authors' teacher has those of its
    # own predictions instead, so none in the warm-up, which makes none.
    config.ema.batch_stats = True
    config.ema.freeze_epoch = -1  # from which the teacher stays as it is; -1: none
    config.soft_labels = ConfigDict()
    config.soft_labels.momentum = 0.0  # of predictions from one epoch to the next
    config.soft_labels.start = "predicted"  # or one_hot: as the given labels

    # The options of the methods and losses that have some, by name; defaults as in
    # their papers.
    config.baseline = ConfigDict(default_options())
    config.optim = _optim()
    return config.lock()


def _csv() -> ConfigDict:
    """How .csv and .tsv files are read; see `cmwjax.data.csv_sets.load`."""
    csv = ConfigDict()
    csv.text = ""  # column of texts; '': all others are numbers
    csv.label = ""  # column of labels; '': 'label', 'class' or 'target', else the last
    csv.classes = ()  # their names in order, where it says something; (): by name
    csv.test = ""  # file of the test samples; '': a share of the training samples ...
    csv.test_share = 0.25  # ... namely this one
    # File of samples whose labels are trusted; what has their inputs is not trained on.
    csv.trusted = ""
    csv.truth = ""  # file of the same samples with the right labels, for experiments
    csv.length = 128  # tokens per text
    return csv


def _stream() -> ConfigDict:
    """How images that stay on disk are read."""
    stream = ConfigDict()
    stream.tests = ("test",)  # sets beside 'train'; the first is *the* test set
    stream.resize = 256  # pixels of the shorter side before the crop; 0: as it is
    stream.image_size = 224  # pixels per side of the crop ...
    stream.crop = "random_crop"  # ... in training, or random_resized_crop, centre
    stream.evaluation_batch = 256
    # Without influence on what is learned:
    stream.workers = -1  # processes that decode; -1: all cores but one; 0: none
    stream.prefetch = 2  # batches that wait on the devices
    return stream


def _optim() -> ConfigDict:
    optim = ConfigDict()
    optim.name = "sgd"  # or adam, adamw, amsgrad, which read no momentum
    optim.learning_rate = 0.1
    optim.momentum = 0.9
    optim.nesterov = False
    optim.weight_decay = 5e-4
    optim.schedule = ConfigDict()
    optim.schedule.name = "constant"
    optim.schedule.boundaries = ()  # epochs at which 'steps' multiplies the rate ...
    optim.schedule.factor = 0.1  # ... by this
    optim.schedule.constant_epochs = 0  # before 'restarts' begins with its cosines
    optim.schedule.period = 5  # epochs of the first one ...
    optim.schedule.multiplier = 2  # ... and how much longer each next one is
    optim.schedule.minimum = 1e-4  # where they end
    optim.schedule.linear_epochs = 0  # in which the rate comes up, whatever the name
    return optim
