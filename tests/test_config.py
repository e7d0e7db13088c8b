"""Configurations: what is accepted, and the one error for what is not."""

import importlib.util
import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from cmwjax.config import base_config
from cmwjax.config_check import REGROUPED, RENAMED, check_config
from cmwjax.randomness import DRAWS
from cmwjax.training.workdir import check_folder
from configs.common import parse_arg

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
CONFIGS = [path for path in CONFIGS if path.stem != "common"]  # what they share


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_file_is_valid(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    check_config(module.get_config())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, r"config.epochs=0 is out of range"),
        ("noise.rate", 1.5, r"config.noise.rate=1.5 is out of range"),
        ("noise.rate", -0.1, r"config.noise.rate=-0.1"),
        ("method", "cwm_net", r"config.method='cwm_net' is unknown; choose one of"),
        ("parallel", "shard", r"config.parallel='shard' is unknown"),
        ("noise.kind", "flip", r"config.noise.kind='flip' is unknown"),
        ("loss", "hinge", r"config.loss='hinge' is unknown; choose one of"),
        (
            "optim.schedule.name",
            "linear",
            r"schedule.name='linear' is unknown",
        ),
        ("weighting.optimizer.name", "lion", r"config.weighting.optimizer.name='lion'"),
        ("baseline.gce.q", 0.0, r"config.baseline.gce.q=0.0 is out of range"),
        ("meta_set.policy", "magic", r"config.meta_set.policy='magic'"),
        ("weighting.normalisation", "sum", r"config.weighting.normalisation='sum'"),
        ("weighting.num_families", 0, r"config.weighting.num_families=0"),
        ("meta_set.trusted_share", -0.5, r"trusted_share=-0.5 is no share: choose"),
        ("compare.methods", ("erm",), r"give both, or neither"),
        ("ema.freeze_epoch", 60, r"config.ema.freeze_epoch=60 never comes .*epochs=60"),
    ],
)
def test_values_out_of_range_are_named(field, value, message):
    config = base_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
        check_config(config)


@pytest.mark.parametrize(
    ("field", "value", "now"),
    [
        ("optim.boundaries", (3,), "config.optim.schedule.boundaries now"),
        (
            "weighting.learning_rate",
            0.1,
            "config.weighting.optimizer.learning_rate now",
        ),
        ("baseline.elr_strength", 7.0, "config.baseline.elr.strength now"),
        ("optim.schedule", "steps", "a group: set config.optim.schedule.name"),
        ("weighting.optimizer", "sgd", "a group: set config.weighting.optimizer.name"),
    ],
)
def test_fields_of_earlier_versions_are_told_their_new_name(field, value, now):
    config = ConfigDict(base_config().to_dict(), type_safe=False)
    group, name = field.split(".")
    config[group][name] = value
    with pytest.raises(ValueError, match=rf"config.{field}=.* {now}"):
        check_config(config)


def test_new_names_of_fields_exist():
    fields = base_config().to_dict()
    for field in (*RENAMED.values(), *REGROUPED.values()):
        value = fields
        for part in field.partition(" ")[0].split("."):
            value = value[part]


def test_the_lookahead_by_the_optimizer_needs_sgd():
    config = base_config()
    config.weighting.lookahead = "optimizer"
    check_config(config)
    config.optim.name = "adam"
    with pytest.raises(ValueError, match="config.optim.name='adam'.* only sgd"):
        check_config(config)


def test_noise_rate_without_kind_is_refused():
    config = base_config()
    config.noise.rate = 0.4
    with pytest.raises(ValueError, match="has no effect"):
        check_config(config)


def test_unknown_missing_and_mistyped_fields_are_named():
    config = ConfigDict(base_config().to_dict())
    config.optim.momentun = 0.9
    with pytest.raises(ValueError, match="config.optim.momentun=0.9 is an unknown"):
        check_config(config)
    del config.optim.momentun
    del config.epochs
    with pytest.raises(ValueError, match="config.epochs is missing"):
        check_config(config)
    config.epochs = "many"
    with pytest.raises(ValueError, match="config.epochs='many' has type str"):
        check_config(config)


def test_typos_in_a_config_file_fail_at_once():
    with pytest.raises(AttributeError, match="momentum"):
        base_config().optim.momentun = 0.9


def test_parse_arg():
    assert parse_arg(None, rate=0.5) == {"rate": 0.5}
    parsed = parse_arg("rate=0.8,fast,name=x", rate=0.5, fast=False, name="y", n=1)
    assert parsed == {"rate": 0.8, "fast": True, "name": "x", "n": 1}
    with pytest.raises(ValueError, match="unknown argument 'rat'"):
        parse_arg("rat=1", rate=0.5)
    with pytest.raises(ValueError, match="type float, as in rate=0.5"):
        parse_arg("rate=high", rate=0.5)
    with pytest.raises(ValueError, match="type int"):
        parse_arg("n", n=1)


def test_a_folder_of_another_version_is_called_so(tmp_path):
    old = base_config().to_dict()
    old["optim"]["schedule"], old["optim"]["factor"] = "steps", 0.1
    (tmp_path / "config.json").write_text(json.dumps(old))
    with pytest.raises(ValueError, match="another version.*optim.factor is called opt"):
        check_folder(tmp_path, base_config())
    same = base_config().to_dict()
    (tmp_path / "config.json").write_text(json.dumps(same))
    with pytest.raises(ValueError, match="another version.*other random numbers"):
        check_folder(tmp_path, base_config())
    (tmp_path / "config.json").write_text(json.dumps({"draws": DRAWS, **same}))
    check_folder(tmp_path, base_config())
