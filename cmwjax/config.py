"""Every field of a run's configuration, and its default; see also `config_check`.

The comment beside a field, or right above it, is what `python run.py --help` and
docs/configuration.md say of it.
"""

from ml_collections import ConfigDict

from cmwjax.methods.catalogue import default_options


def base_config() -> ConfigDict:
    """The defaults; files in `configs/` change some of them."""
    config = ConfigDict()
    config.method = "cmw_net"  # what a single run trains with
    config.task = "classification"  # what a label is
    config.seed = 0  # governs noise, meta set, initial parameters and order alike
    config.epochs = 60  # passes over the training set
    config.loss = "cross_entropy"  # what methods weight that have no loss of their own
    config.warmup_epochs = 0  # before weights, MixUp and corrected labels or losses
    # Epochs between looks at all training samples: how well their labels suit them, in
    # the mean, is the quality that `samples.csv` ranks by. 0: it looks at the end only.
    config.audit_every = 1
    config.meta_every = 1  # P: a meta step every P steps, weighted steps between
    # How steps are spread over the devices: 'pmap', 'shard_map' or 'jit', which end the
    # same.
    config.parallel = "pmap"
    # Whether batch norm sees the batch of all devices, or each device its own part;
    # then more devices are another run.
    config.synchronise_batch_norm = True
    # Steps that are dispatched together, of images in memory. More than one is for
    # accelerators: XLA's convolutions are slow inside of its loops on CPUs.
    config.steps_per_call = 1

    config.max_skips_in_a_row = 100  # updates that are not finite; then the run stops
    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 500  # steps between checkpoints; 0: when it ends
    config.checkpoint.keep = 2  # the newest ones that stay

    # With methods and seeds here, run.py makes one run of each and compares them.
    config.compare = ConfigDict()
    # A method may come more than once, as METHOD@NAME with fields of its own.
    config.compare.methods = ()
    config.compare.seeds = ()  # one run of each method for each
    config.compare.tuned = ConfigDict()  # method or METHOD@NAME -> fields that differ

    config.data = ConfigDict()
    # The data set: digits or another embedded set, cifar10, fashion_mnist, a
    # Keras-style .npz file, a .csv or .tsv file; or images that stay on disk:
    # 'folder:PATH', also of a list of files, 'tfds:NAME' (see `cmwjax.data.on_disk`),
    # animal10n, clothing1m, food101n, webfg496/bird, webvision/mini.
    config.data.name = "digits"
    config.data.train_size = 0  # samples to learn from, a stratified draw; 0: all
    config.data.imbalance_factor = 1.0  # of a long tail: largest over smallest class
    # 'true', 'given' if nobody knows whether the data set's own labels are right, or a
    # label set, as 'human_worse', 'FILE.npz:KEY' or 'CIFAR-10_human.pt:KEY'; {seed} in
    # it stands for the seed of the run.
    config.data.labels = "true"
    # A frozen net that turns images, or vectors of words that turn texts, into rows,
    # once, for a small head to learn from.
    config.data.embed = ""
    config.data.embed_size = 96  # pixels per side of images that it sees
    config.data.standardise = "own"  # by its training pixels; or as for 'imagenet'
    # Share (< 1) or number of samples to validate with, noise and all.
    config.data.validation = 0.0
    config.data.seed = -1  # who is in which set, and the long tail; -1: config.seed
    config.data.batch_size = 100  # training samples in a step, on all devices together
    config.data.shards = 4  # virtual shards; a multiple of the number of devices

    config.data.csv = _csv()
    config.data.stream = _stream()

    config.noise = ConfigDict()
    config.noise.kind = "none"  # how labels are made wrong on purpose
    config.noise.rate = 0.0  # share of labels that it concerns, in [0, 1]
    # Of asymmetric noise: ((from, to), ...) or a name, 'cifar10' or 'cifar10_two_way'.
    config.noise.class_map = ("cifar10",)
    # Whether it may come on top of labels that nobody knows to be right.
    config.noise.on_given = False
    config.noise.seed = -1  # of the draw; -1: config.seed; else one draw for all runs

    # Partial labels (task='partial'): wrong classes that join the label of a sample, on
    # top of noise; the draw is by noise.seed.
    config.candidates = ConfigDict()
    config.candidates.kind = "none"  # how sets are made; 'none': the data have some
    config.candidates.rate = 0.0  # q, with which a wrong class joins, in [0, 1]
    # Classes that a set of 'binomial' has at least; 2 is that of the paper.
    config.candidates.smallest = 2

    # Semi-supervised learning (task='semi').
    config.semi = ConfigDict()
    # Samples that keep their labels, of each class by its share; the draw is by
    # data.seed. 0: the data have samples without a label themselves.
    config.semi.labels = 0
    config.semi.mu = 2  # samples without a label in a step for each one with a label

    config.meta_set = ConfigDict()
    # Who is trusted: samples held out with their right labels, those of a file of their
    # own, those with a label where most have none (which are learned as well), as many
    # of each class as the rarest has, those of lowest loss, or nobody.
    config.meta_set.policy = "held_out"
    config.meta_set.per_class = 10  # samples of each class in the meta set
    config.meta_set.batch_size = 100  # samples of the meta set in a meta step
    # Share of trusted samples in what the classifier learns at a meta step, where the
    # policy has some. 0: they only teach the weighting net, as in the paper; -1: what
    # they are of all samples, so that a trusted sample counts as much as any other.
    config.meta_set.trusted_share = -1.0

    config.model = ConfigDict()
    config.model.name = "mlp"  # see MODELS in models/catalogue.py
    # Arguments of the model, for a file in configs/ to choose: a group of any fields.
    config.model.options = ConfigDict()
    config.model.options.hidden = (128, 128)  # units of each hidden layer of the MLP
    config.model.weights = ""  # .safetensors or .pth file the classifier starts from

    config.weighting = ConfigDict()
    # A weighting function to apply as it is, without any meta step: a file written by
    # an earlier run, zoo:NAME (results/zoo.md), or the authors' .npz or .pth.
    config.weighting.load = ""
    config.weighting.num_families = 3  # families of classes of like size
    config.weighting.hidden = 100  # units of the weighting net's hidden layer
    config.weighting.start = "torch"  # initial parameters of the weighting net
    # Whether a loss of zero has one weight in all families; False: as in the paper.
    config.weighting.anchored = True
    config.weighting.optimizer = ConfigDict()
    # The optimizer of the weighting net. Only sgd reads the momentum. Adam's decay,
    # that of the paper, takes over when the classifier's learning rate falls, which the
    # meta-gradient is proportional to, and weights end at 0.5; that of adamw does not.
    config.weighting.optimizer.name = "adamw"
    config.weighting.optimizer.momentum = 0.9  # of sgd
    config.weighting.optimizer.nesterov = True  # whether that is Nesterov's
    config.weighting.optimizer.learning_rate = 3e-3  # of the weighting net
    config.weighting.optimizer.weight_decay = 1e-2  # of the weighting net
    # What the sum of weighted losses is divided by: the batch size, or the sum of the
    # weights.
    config.weighting.normalisation = "weights"
    # The step that a meta step looks ahead by: plain SGD's, or the optimizer's own.
    config.weighting.lookahead = "sgd"
    # The layers that look ahead: all of them, or the last one alone, an approximation
    # in which a meta step costs 1.3 of an ordinary step instead of 3.3, and 2 where
    # trusted samples are learned as well.
    config.weighting.lookahead_layers = "all"
    # Whether a meta step frees the memory of its forward pass and makes the pass again,
    # for the same numbers at 3.7 of an ordinary step in about the memory of one.
    config.weighting.lean = False

    config.augment = ConfigDict()
    config.augment.pad = 0  # pixels by which training images are shifted at most
    config.augment.mode = "reflect"  # what comes in from outside
    config.augment.flip = False  # whether left and right change places at random
    config.augment.meta = False  # whether the meta set's images are augmented too

    # MixUp, of the methods that use it.
    config.mixup = ConfigDict()
    config.mixup.alpha = 1.0  # shares come from Beta(alpha, alpha); 0: no mixing
    # The weight of the partner's loss: the partner's own, or see `mixup.mixed_weights`.
    config.mixup.second_weight = "permuted"
    config.mixup.meta_alpha = 0.0  # alpha of the meta batch; 0: not mixed
    # The teacher, of the methods that use one.
    config.ema = ConfigDict()
    config.ema.decay = 0.997  # what the moving average keeps at a step
    # Whether batch statistics are averaged too. The authors' teacher has those of its
    # own predictions instead, so none in the warm-up, which makes none.
    config.ema.batch_stats = True
    config.ema.freeze_epoch = -1  # from which the teacher stays as it is; -1: none
    # Soft labels, of the methods that use them.
    config.soft_labels = ConfigDict()
    config.soft_labels.momentum = 0.0  # of predictions from one epoch to the next
    config.soft_labels.start = "predicted"  # the first ones; or as the given labels

    # What is remembered of the samples.
    config.memory = ConfigDict()
    # Probabilities of a sample that soft labels and ELR remember: the largest ones, in
    # 4 k + 2 bytes, and the rest is spread evenly over the other classes; 0: those of
    # all classes, exactly, in 4 bytes each.
    config.memory.top_k = 0

    # The options of the methods and losses that have some, by name; defaults as in
    # their papers.
    config.baseline = ConfigDict(default_options())
    config.optim = _optim()
    return config.lock()


def _csv() -> ConfigDict:
    """How .csv and .tsv files are read; see `cmwjax.data.csv_sets.load`."""
    csv = ConfigDict()
    # Column of texts, or of the files of a 'folder:FILE.csv'; '': all are numbers.
    csv.text = ""
    csv.label = ""  # column of labels; '': 'label', 'class' or 'target', else the last
    csv.classes = ()  # names in order, where it says something; (): by name
    # What stands between candidates in the column of labels, where task='partial'.
    csv.separator = "|"
    csv.test = ""  # file of the test samples; '': a share of the training samples
    # Share of the training samples where there is no such file; 0: nothing to test with
    csv.test_share = 0.25
    # File of samples whose labels are trusted, of an archive another one, of images on
    # disk a folder of classes, or 'split:NAME' of a set of TFDS. What has their inputs
    # is not trained on, but for images.
    csv.trusted = ""
    csv.truth = ""  # file of the same samples with the right labels, for experiments
    csv.length = 128  # tokens per text
    return csv


def _stream() -> ConfigDict:
    """How images that stay on disk are read; the last two change no result."""
    stream = ConfigDict()
    # Sets beside 'train'; the first is *the* test set. (): nothing to test with.
    stream.tests = ("test",)
    stream.resize = 256  # pixels of the shorter side before the crop; 0: as it is
    stream.image_size = 224  # pixels per side of the crop
    stream.crop = "random_crop"  # which crop training takes
    stream.evaluation_batch = 256  # images that are scored together
    stream.workers = -1  # threads that decode; -1: all cores but one; 0: none
    stream.prefetch = 2  # batches that are decoded ahead, beside those in the making
    return stream


def _optim() -> ConfigDict:
    """The classifier's optimizer, and how its learning rate goes."""
    optim = ConfigDict()
    optim.name = "sgd"  # all but sgd read no momentum
    # The layers that are trained: all of them, or the last one alone, of a net that was
    # trained before. The virtual step of the meta step moves no others then.
    optim.layers = "all"
    optim.learning_rate = 0.1  # where the schedule starts, or of 'one_cycle' its peak
    optim.momentum = 0.9  # of sgd
    optim.nesterov = False  # whether that is Nesterov's
    optim.weight_decay = 5e-4  # of the classifier
    # Slices of a batch that the classifier sees one after the other, in the memory of
    # one: the same step, but that batch norm and dropout know a slice alone. What was
    # kept is computed again: an ordinary step costs 1.35 of one, a meta step 4.7.
    optim.accumulate = 1
    optim.schedule = ConfigDict()
    optim.schedule.name = "constant"  # how the learning rate changes by epoch
    optim.schedule.boundaries = ()  # epochs at which 'steps' multiplies the rate
    optim.schedule.factor = 0.1  # what it multiplies it by
    optim.schedule.constant_epochs = 0  # before 'restarts' begins with its cosines
    optim.schedule.period = 5  # epochs of the first cosine of 'restarts'
    optim.schedule.multiplier = 2  # how much longer each next cosine is
    optim.schedule.minimum = 1e-4  # rate at which the cosines of 'restarts' end
    optim.schedule.linear_epochs = 0  # in which the rate comes up, whatever the name
    return optim
