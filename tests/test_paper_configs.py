"""The paper's settings, line by line, in the configurations that stand for them."""

import numpy as np
import pytest

from cmwjax.compare import one_run
from cmwjax.config_check import check_config
from cmwjax.core import optimizers
from cmwjax.core.weighting_file import read_weighting
from cmwjax.models.catalogue import build
from results.biases import read_config

LONG_TAIL = {
    "model.name": "resnet32",
    "data.batch_size": 100,
    "data.imbalance_factor": 100,
    "data.seed": 42,
    "epochs": 200,
    "warmup_epochs": 160,
    "optim.name": "sgd",
    "optim.momentum": 0.9,
    "optim.nesterov": True,
    "optim.weight_decay": 5e-4,
    "meta_every": 1,
    "meta_set.policy": "balanced",
    "meta_set.batch_size": 100,
    "augment.pad": 4,
    "augment.mode": "reflect",
    "augment.flip": True,
    "augment.meta": True,
    "weighting.optimizer.name": "amsgrad",
    "weighting.optimizer.learning_rate": 1e-4,
    "weighting.optimizer.weight_decay": 1e-5,
    "weighting.normalisation": "weights",
    "loss": "cross_entropy",
    "noise.kind": "none",
}
INDEPENDENT = {
    "model.name": "preact_resnet18",
    "data.batch_size": 128,
    "epochs": 300,
    "warmup_epochs": 10,
    "optim.name": "sgd",
    "optim.momentum": 0.9,
    "optim.nesterov": False,
    "optim.weight_decay": 5e-4,
    "meta_every": 10,
    "meta_set.policy": "lowest_loss",
    "meta_set.per_class": 10,
    "meta_set.batch_size": 128,
    "augment.pad": 4,
    "augment.mode": "reflect",
    "augment.flip": True,
    "augment.meta": False,
    "weighting.optimizer.name": "adam",
    "weighting.optimizer.learning_rate": 1e-4,
    "weighting.optimizer.weight_decay": 1e-4,
    "weighting.normalisation": "mean",
    "noise.kind": "asymmetric",
    "noise.class_map": ("cifar10",),
}
FEATURE_DEPENDENT = INDEPENDENT | {
    "model.name": "resnet34",
    "epochs": 120,
    "warmup_epochs": 45,
    "optim.weight_decay": 1e-3,
    "augment.mode": "zero",
    "weighting.optimizer.learning_rate": 1e-3,
    "noise.kind": "none",
    "data.labels": "pmd_type1_035",
}
SOFT = {  # of independent noise
    "mixup.alpha": 1.0,
    "mixup.meta_alpha": 1.0,
    "mixup.second_weight": "permuted",
    "ema.decay": 0.997,
    "ema.freeze_epoch": -1,
    "soft_labels.momentum": 0.0,
}
WEBVISION = {
    "method": "cmw_net_sl",
    "optim.momentum": 0.9,
    "optim.nesterov": False,
    "optim.schedule.factor": 0.1,
    "augment.flip": True,
    "mixup.second_weight": "mixed",
    "ema.decay": 0.997,
    "soft_labels.momentum": 0.9,
    "soft_labels.start": "one_hot",
    "data.stream.tests": ("validation",),
}
ANIMAL10N = {
    "method": "cmw_net_sl",
    "data.name": "animal10n",
    "data.labels": "given",
    "data.batch_size": 128,
    "data.stream.resize": 0,
    "data.stream.image_size": 64,
    "data.stream.tests": ("test",),
    "augment.flip": True,
    "augment.meta": True,
    "model.name": "vgg19_bn",
    "model.options": {},
    "epochs": 100,
    "warmup_epochs": 20,
    "optim.name": "sgd",
    "optim.momentum": 0.0,
    "optim.weight_decay": 1e-3,
    "mixup.alpha": 1.0,
    "mixup.meta_alpha": 0.0,
    "mixup.second_weight": "mixed",
    "ema.decay": 0.997,
    "soft_labels.momentum": 0.9,
    "soft_labels.start": "one_hot",
}
HUMAN = {"data.labels": "human_worse", "noise.kind": "none"}
HUNDRED = "data=x/cifar100.npz"
PMD = "labels=pmd_type1_035"
WITH_PMD = f"cifar.py:{PMD}"


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("cifar.py:noise=sym,rate=0.4", SOFT),
        ("cifar.py:noise=asym,rate=0.2", {"mixup.alpha": 0.4, "ema.freeze_epoch": 150}),
        ("cifar.py:noise=asym,rate=0.6", {"mixup.alpha": 4.0, "ema.freeze_epoch": 150}),
        ("cifar.py:noise=asym,rate=0.8", SOFT | {"ema.freeze_epoch": 150}),
        (f"cifar.py:{HUNDRED},noise=sym,rate=0.8", SOFT | {"mixup.alpha": 0.1}),
        (
            WITH_PMD,
            {
                "mixup.alpha": 4.0,
                "mixup.meta_alpha": 0.0,
                "mixup.second_weight": "mixed",
                "ema.decay": 0.999,
                "ema.freeze_epoch": -1,
                "soft_labels.momentum": 0.9,
                "soft_labels.start": "predicted",
            },
        ),
        ("cifar_lt.py", LONG_TAIL),
        (f"cifar_lt.py:{HUNDRED}", LONG_TAIL),
        ("cifar_lt.py:imbalance=200", LONG_TAIL | {"data.imbalance_factor": 200}),
        (
            "cifar_lt.py:loss=ldam",
            LONG_TAIL | {"loss": "ldam", "model.options": {"head": "cosine"}},
        ),
        ("cifar.py:noise=asym,rate=0.8", INDEPENDENT | {"noise.rate": 0.8}),
        ("cifar.py:noise=sym,rate=0.8", INDEPENDENT | {"noise.kind": "symmetric"}),
        (
            f"cifar.py:{HUNDRED},noise=asym,rate=0.8",
            INDEPENDENT | {"warmup_epochs": 30, "noise.kind": "superclass"},
        ),
        (
            f"cifar.py:{HUNDRED},noise=sym,rate=0.8",
            INDEPENDENT
            | {"epochs": 345, "warmup_epochs": 30, "noise.kind": "symmetric"}
            | {"weighting.optimizer.learning_rate": 1e-3},
        ),
        ("cifar.py:labels=human_worse", INDEPENDENT | SOFT | HUMAN),
        (WITH_PMD, FEATURE_DEPENDENT),
        (f"cifar.py:{HUNDRED},{PMD}", FEATURE_DEPENDENT),
        (
            f"{WITH_PMD},noise=hybrid_sym,rate=0.3",
            FEATURE_DEPENDENT | {"noise.kind": "symmetric_other", "noise.rate": 0.3},
        ),
        (
            f"{WITH_PMD},noise=hybrid_asym,rate=0.3",
            FEATURE_DEPENDENT
            | {"noise.kind": "asymmetric", "noise.class_map": ("cifar10_two_way",)},
        ),
        (
            f"cifar.py:{HUNDRED},{PMD},noise=hybrid_asym,rate=0.3",
            FEATURE_DEPENDENT | {"noise.kind": "blocks", "noise.rate": 0.3},
        ),
    ],
)
def test_settings_are_the_papers(text, facts):
    config = read_config(text)
    for name in ("erm", "mw_net", "cmw_net", "cmw_net_sl"):
        single = one_run(config, name, 0)
        check_config(single)
        flat = ConfigView(single)
        assert {field: flat[field] for field in facts} == facts


def test_the_average_that_judges_erm_never_freezes():
    config = read_config("cifar.py:noise=asym,rate=0.8")
    freezes = {
        method: one_run(config, method, 0).ema.freeze_epoch
        for method in ("erm_mixup_ema", "cmw_net_mixup", "cmw_net_sl")
    }
    # The authors' plain form is the soft one without soft labels, and no other change.
    assert freezes == {"erm_mixup_ema": -1, "cmw_net_mixup": 150, "cmw_net_sl": 150}


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (
            "webvision.py",
            {
                "model.name": "inception_resnet_v2",
                "data.name": "webvision/full",
                "data.batch_size": 256,
                "data.stream.resize": 320,
                "data.stream.image_size": 299,
                "data.stream.crop": "random_resized_crop",
                "epochs": 90,
                "warmup_epochs": 10,
                "optim.learning_rate": 0.2,
                "optim.weight_decay": 5e-5,
                "optim.schedule.boundaries": (30, 60),
                "mixup.alpha": 0.2,
                "meta_set.policy": "none",
            },
        ),
        (
            "webvision.py:mini",
            {
                "model.name": "resnet50",
                "data.name": "webvision/mini",
                "data.batch_size": 32,
                "data.stream.resize": 256,
                "data.stream.image_size": 227,
                "data.stream.crop": "random_crop",
                "epochs": 100,
                "warmup_epochs": 5,
                "optim.learning_rate": 0.01,
                "optim.weight_decay": 5e-4,
                "optim.schedule.boundaries": (50,),
                "mixup.alpha": 0.6,
                "mixup.meta_alpha": 1.0,
                "meta_every": 10,
                "meta_set.policy": "lowest_loss",
                "meta_set.per_class": 10,
                "meta_set.batch_size": 32,
                "weighting.optimizer.name": "adam",
                "weighting.optimizer.learning_rate": 1e-4,
                "weighting.load": "",
            },
        ),
    ],
)
def test_settings_of_webvision_are_the_papers(text, facts):
    config, facts = read_config(text), WEBVISION | facts
    check_config(config)
    flat = ConfigView(config)
    assert {field: flat[field] for field in facts} == facts
    assert read_config(f"{text.partition(':')[0]}:smoke").data.name == (
        "webvision/example"
    )
    if not flat["weighting.load"]:
        return
    function = read_weighting(flat["weighting.load"])
    small, moderate, large = function.net.curves(
        {"params": function.params}, np.array([0.0, 2.0, 5.0], np.float32)
    )
    # As the paper's: rare classes are trusted at any loss, the others the less the
    # larger it is.
    assert np.all(np.diff(small) > 0) and small[0] > 0.5
    assert np.all(np.diff(moderate) < 0) and np.all(np.diff(large) < 0)
    assert large[2] < 0.1


@pytest.mark.parametrize(
    ("argument", "facts"),
    [
        (
            "",
            {
                "meta_set.policy": "lowest_loss",
                "meta_set.per_class": 10,
                "meta_set.batch_size": 128,
                "meta_every": 10,
                "weighting.optimizer.name": "adam",
                "weighting.optimizer.learning_rate": 1e-3,
                "weighting.optimizer.weight_decay": 1e-4,
                "weighting.normalisation": "mean",
                "weighting.load": "",
            },
        ),
        (
            ":transfer",
            {"meta_set.policy": "none", "weighting.load": "zoo:cifar10_hybrid_asym"},
        ),
    ],
)
def test_settings_of_animal10n_are_the_papers(argument, facts):
    config, facts = read_config(f"animal10n.py{argument}"), ANIMAL10N | facts
    check_config(config)
    flat = ConfigView(config)
    assert {field: flat[field] for field in facts} == facts
    assert read_config("animal10n.py:smoke").data.name == "animal10n/example"


CLOTHING1M = {
    "method": "cmw_net",
    "data.batch_size": 32,
    "data.stream.resize": 256,
    "data.stream.image_size": 224,
    "model.name": "resnet50",
    "epochs": 10,
    "optim.learning_rate": 0.01,
    "optim.momentum": 0.9,
    "optim.weight_decay": 1e-3,
    "optim.schedule.boundaries": (5,),
    "meta_every": 1,
    "meta_set.batch_size": 32,
    "meta_set.trusted_share": 0.0,
    "weighting.optimizer.learning_rate": 1e-3,
    "weighting.normalisation": "mean",
}


@pytest.mark.parametrize(
    ("argument", "facts"),
    [
        (
            "weights=x.pth",
            {
                "data.name": "clothing1m/full",
                "data.labels": "given",
                "data.csv.trusted": "split:validation",
                "meta_set.policy": "external",
                "model.weights": "x.pth",
            },
        ),
        (
            "pairs",
            {
                "data.name": "clothing1m/pairs",
                "data.labels": "noisy",
                "data.csv.trusted": "",
                "meta_set.policy": "held_out",
            },
        ),
        ("pairs,smoke", {"data.name": "clothing1m/example_pairs"}),
        ("smoke", {"data.name": "clothing1m/example"}),
    ],
)
def test_settings_of_clothing1m_are_those_of_mw_net(argument, facts):
    config = read_config(f"clothing1m.py:{argument}")
    if "smoke" not in argument:
        facts = CLOTHING1M | facts
    check_config(config)
    flat = ConfigView(config)
    assert {field: flat[field] for field in facts} == facts


@pytest.mark.parametrize(
    ("argument", "facts"),
    [
        (
            "weights=x.pth",
            {
                "data.name": "food101n/full",
                "meta_set.policy": "lowest_loss",
                "data.csv.trusted": "",
                "model.weights": "x.pth",
            },
        ),
        (
            "verified",
            {
                "data.name": "food101n/unverified",
                "meta_set.policy": "external",
                "data.csv.trusted": "split:verified",
            },
        ),
        ("smoke", {"data.name": "food101n/example"}),
        ("smoke,verified", {"data.name": "food101n/example_unverified"}),
    ],
)
def test_settings_of_food101n(argument, facts):
    config = read_config(f"food101n.py:{argument}")
    check_config(config)
    flat = ConfigView(config)
    assert {field: flat[field] for field in facts} == facts


WEBFG496 = {
    "method": "cmw_net_sl",
    "data.stream.resize": 448,
    "data.stream.image_size": 448,
    "model.name": "bcnn_vgg16",
    "epochs": 200,
    "warmup_epochs": 40,
    "optim.name": "adam",
    "optim.schedule.name": "cosine",
    "optim.schedule.linear_epochs": 5,
    "meta_every": 20,
    "mixup.alpha": 0.5,
    "mixup.meta_alpha": 0.0,
    "ema.decay": 0.999,
    "soft_labels.momentum": 0.9,
    "soft_labels.start": "predicted",
    "weighting.optimizer.learning_rate": 1e-3,
    "weighting.optimizer.weight_decay": 1e-4,
}


@pytest.mark.parametrize(
    ("argument", "facts"),
    [
        (
            "data=bird,weights=x.pth",
            {
                "data.name": "webfg496/bird",
                "data.csv.trusted": "split:meta",
                "data.batch_size": 64,
                "meta_set.policy": "external",
                "model.weights": "x.pth",
                "optim.layers": "last",
                "optim.learning_rate": 1e-3,
                "optim.weight_decay": 1e-8,
            },
        ),
        (
            "data=car,step=2,meta=lowest_loss",
            {
                "data.name": "webfg496/car",
                "data.csv.trusted": "",
                "data.batch_size": 32,
                "meta_set.policy": "lowest_loss",
                "optim.layers": "all",
                "optim.learning_rate": 1e-4,
                "optim.weight_decay": 1e-5,
            },
        ),
    ],
)
def test_settings_of_webfg496_are_the_papers(argument, facts):
    config, facts = read_config(f"webfg496.py:{argument}"), WEBFG496 | facts
    check_config(config)
    flat = ConfigView(config)
    assert {field: flat[field] for field in facts} == facts
    assert read_config("webfg496.py:smoke").data.name == "webfg496/example"


@pytest.mark.parametrize("argument", ["data=dog", "step=3", "meta=x"])
def test_webfg496_lists_its_choices(argument):
    name, _, _ = argument.partition("=")
    with pytest.raises(ValueError, match=f"argument {name}=.* is unknown; choose one"):
        read_config(f"webfg496.py:{argument}")


class ConfigView:
    """Fields of a configuration by their dotted names."""

    def __init__(self, config):
        self.config = config

    def __getitem__(self, field):
        value = self.config
        for part in field.split("."):
            value = value[part]
        return value.to_dict() if hasattr(value, "to_dict") else value


def rates(text, method="cmw_net"):
    """The learning rate in every epoch."""
    config = one_run(read_config(text), method, 0)
    schedule = optimizers.learning_rate(
        config.optim.learning_rate,
        total_steps=config.epochs,
        **config.optim.schedule,
    )
    return np.array([schedule(epoch) for epoch in range(config.epochs)])


def restarts(peak, constant, periods):
    """A constant rate, then cosines from the peak down to 1e-4."""
    cosines = [
        1e-4 + (peak - 1e-4) * (1 + np.cos(np.pi * np.arange(p) / p)) / 2
        for p in periods
    ]
    return np.concatenate([np.full(constant, peak), *cosines])


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("cifar_lt.py", np.repeat([0.1, 1e-3, 1e-5], [160, 20, 20])),
        ("cifar.py:noise=asym,rate=0.4", np.repeat([0.02, 0.002], 150)),
        (
            f"cifar.py:{HUNDRED},noise=sym,rate=0.8",
            restarts(0.02, 30, [5, 10, 20, 40, 80, 160]),
        ),
        (WITH_PMD, restarts(0.1, 45, [5, 10, 20, 40])),
        ("animal10n.py", np.repeat([0.1, 0.02, 0.004], [50, 25, 25])),
    ],
)
def test_learning_rates_are_the_papers(text, want):
    np.testing.assert_allclose(rates(text), want, rtol=1e-5)


def test_ldam_drw_has_its_own_head_start_and_deferral():
    config = one_run(read_config("cifar_lt.py:methods=ldam_drw"), "ldam_drw", 0)
    check_config(config)
    assert config.model.options.to_dict() == {"head": "cosine"}
    assert config.warmup_epochs == 160
    assert (config.baseline.ldam.margin, config.baseline.ldam.scale) == (0.5, 30)
    assert config.baseline.ldam_drw.beta == 0.9999
    want = np.repeat([0.1, 1e-3, 1e-5], [160, 20, 20])
    want[:5] *= np.arange(1, 6) / 5
    got = rates("cifar_lt.py:methods=ldam_drw", "ldam_drw")
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "method", "facts"),
    [
        ("cifar_lt.py", "class_balanced", {"warmup_epochs": 0}),
        ("cifar_lt.py", "mcw", {"warmup_epochs": 160, "baseline.mcw.step": 0.01}),
        ("cifar_lt.py", "focal", {"baseline.focal.gamma": 1.0}),
        ("cifar.py:noise=sym,rate=0.4", "l2rw", {"meta_every": 1}),
        ("cifar.py:noise=sym,rate=0.4", "mcw", {"meta_every": 1}),
        ("cifar.py:noise=sym,rate=0.4", "gce", {"baseline.gce.q": 0.7}),
        (WITH_PMD, "plc", {"warmup_epochs": 8, "baseline.plc.threshold": 0.3}),
        (
            f"cifar.py:{HUNDRED},{PMD},noise=hybrid_sym,rate=0.3",
            "plc",
            {"warmup_epochs": 15},
        ),
        (
            "cifar.py:noise=sym,rate=0.4",
            "elr",
            {"baseline.elr.strength": 3, "baseline.elr.momentum": 0.7},
        ),
        (
            f"cifar.py:{HUNDRED},noise=sym,rate=0.4",
            "elr",
            {"baseline.elr.strength": 7, "baseline.elr.momentum": 0.9},
        ),
    ],
)
def test_baselines_have_the_settings_of_their_papers(text, method, facts):
    single = one_run(read_config(text), method, 0)
    check_config(single)
    flat = ConfigView(single)
    assert {field: flat[field] for field in facts} == facts


@pytest.mark.parametrize(
    ("argument", "kind", "rate"),
    [
        (None, "asymmetric", 0.8),
        ("rate=0.4", "asymmetric", 0.4),
        ("noise=none", "none", 0),
        ("noise=sym,rate=0.2", "symmetric", 0.2),
        ("imbalance=100", "none", 0),
        ("labels=some/FILE.npz:type1_035", "none", 0),
        (
            "labels=some/FILE.npz:type1_035,noise=hybrid_sym,rate=0.3",
            "symmetric_other",
            0.3,
        ),
    ],
)
def test_fashion_mnist_has_noise_of_its_own_only_without_another_bias(
    argument, kind, rate
):
    text = "fashion_mnist.py" + (f":{argument}" if argument else "")
    config = read_config(text)
    check_config(config)
    assert config.noise.kind == kind
    assert config.noise.rate == rate
    if "FILE" in text:
        assert config.data.labels == "some/FILE.npz:type1_035"


def test_ldam_without_a_cosine_head_is_refused():
    config = one_run(read_config("cifar_lt.py"), "erm", 0)
    for field, value in (("method", "ldam_drw"), ("loss", "ldam")):
        wrong = config.copy_and_resolve_references()
        wrong[field] = value
        with pytest.raises(ValueError, match="set model.options.head='cosine'"):
            check_config(wrong)
        wrong.model.options = {"head": "cosine"}
        check_config(wrong)


@pytest.mark.parametrize("file", ["selective", "semi", "partial"])
@pytest.mark.parametrize("data", ["digits", "fashion_mnist", "cifar10", "rows.npz"])
def test_every_data_set_has_a_model_with_its_own_options(file, data):
    config = read_config(f"{file}.py:data={data}")
    build(config.model.name, num_classes=10, **config.model.options)
