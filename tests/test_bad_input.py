"""Whatever is wrong with a configuration or a data set, one clear error says so."""

import io
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from cmwjax import compare
from cmwjax.config import base_config
from cmwjax.data import datasets
from cmwjax.training.run import assemble

### Configurations


def flattened(tree, prefix=""):
    """Fields that are no group, `{'optim.momentum': 0.9}`."""
    fields = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            fields |= flattened(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def changed(changes):
    """The default configuration with some fields replaced, of whatever type."""
    tree = base_config().to_dict()
    for field, value in changes.items():
        *groups, name = field.split(".")
        group = tree
        for part in groups:
            group = group[part]
        group[name] = value
    return ConfigDict(tree)


KNOWN_AS = {  # where an error does not call it config.FIELD
    "data.imbalance_factor": "imbalance_factor is",
    "data.labels": "labels '",
    "data.name": "data '",
    "method": "PLC relies on predictions",
    "model.name": "model='",
    "model.options.hidden": "config.model.name='mlp' with options {'hidden'",
}
WORDS = ("digits", "erm", "plc", "asymmetric", "steps", "jit", "cifar10", "lowest_loss")
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2, 3, 7, 40, 2**31, 2**63]),
    st.sampled_from([0.0, 0.5, 1.0, 1e30]),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(WORDS),
)
WITHOUT_DOT = st.characters(blacklist_characters=".")  # none is in a field's name
anything = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.lists(st.tuples(scalars, scalars), max_size=2).map(tuple),
    st.dictionaries(st.text(WITHOUT_DOT, max_size=4), scalars, max_size=2),
)
FITTING = {  # of the type that a field has; not all of them in its range
    bool: st.booleans(),
    int: st.integers(-1, 5) | st.sampled_from([8, 40, 10**4]),
    float: st.floats(-0.1, 1.1) | st.sampled_from([1e30, float("nan")]),
    str: st.sampled_from(WORDS),
    tuple: st.lists(st.integers(0, 3), max_size=3).map(tuple),
}
DEFAULTS = flattened(base_config().to_dict())
LEAVES = sorted(DEFAULTS)


def change(field):
    """A value for a field, most often of its type."""
    fitting = FITTING.get(type(DEFAULTS[field]), anything)
    return st.tuples(st.just(field), fitting | fitting | anything)


changes_of = st.lists(
    st.sampled_from(LEAVES).flatmap(change),
    min_size=1,
    max_size=3,
    unique_by=lambda pair: pair[0],
).map(dict)


def check_configuration(changes):
    """Accepts it, or refuses it in an error that names a field and the remedy."""
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            assemble(changed(changes), "never made")
    except ValueError as error:
        message = str(error)
        names = {f"config.{field}" for field in changes}
        names |= {KNOWN_AS[field] for field in KNOWN_AS.keys() & changes.keys()}
        assert any(name in message for name in names), message
        # What to do comes after what is wrong.
        assert re.search(r"[:;] +\w.{8,}$", message), message


@settings(max_examples=60, deadline=None, derandomize=True)
@given(changes=changes_of)
def test_any_configuration_is_accepted_or_refused_with_a_reason(changes):
    check_configuration(changes)


@pytest.mark.slow
@settings(max_examples=600, deadline=None, derandomize=True)
@given(changes=changes_of)
def test_many_configurations_are_accepted_or_refused_with_a_reason(changes):
    check_configuration(changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": True}, "config.epochs=True has type bool; expected int"),
        ({"epochs": 10**9}, "config.epochs=1000000000 is out of range"),
        ({"optim.learning_rate": np.inf}, "optim.learning_rate=inf is out of range"),
        ({"optim.learning_rate": np.nan}, "optim.learning_rate=nan is out of range"),
        (
            {"optim.schedule.boundaries": (3, "a")},
            r"boundaries=\(3, 'a'\) must hold",
        ),
        ({"checkpoint.keep": 0}, "config.checkpoint.keep=0 is out of range"),
        ({"meta_set.batch_size": 3}, "config.meta_set.batch_size=3 is not a positive"),
        (
            {"data.batch_size": 2000},
            "shards=4, but .* do not fill one batch: lower",
        ),
        ({"data.shards": 8}, "config.data.batch_size=100 is not a .*data.shards=8"),
    ],
)
def test_fields_are_named_before_anything_is_written(changes, message):
    with pytest.raises(ValueError, match=message):
        assemble(changed(changes), "never made")


@pytest.mark.parametrize("hidden", [3, ("a",), (-1,)])
def test_model_options_that_do_not_work_are_named(hidden):
    with pytest.raises(
        ValueError, match="config.model.name='mlp' with options.*hidden"
    ):
        assemble(changed({"model.options": {"hidden": hidden}}), "never made")


@pytest.mark.parametrize(
    ("tuned", "message"),
    [
        ({"erm": 3}, "compare.tuned.erm=3 must be a group"),
        ({"emr": {"epochs": 3}}, "config.compare.tuned='emr' is unknown"),
        ({"erm": {"epochs": 0}}, "config.epochs=0 is out of range"),
    ],
)
def test_tuned_fields_are_checked(tmp_path, tuned, message):
    compared = {"compare.methods": ("erm",), "compare.seeds": (0,)}
    with pytest.raises(ValueError, match=message):
        compare.run(changed(compared | {"compare.tuned": tuned}), tmp_path / "never")
    assert not (tmp_path / "never").exists()


### Data sets

shapes = st.lists(st.integers(0, 4), max_size=5).map(tuple)
image_shapes = st.just((6, 3, 2)) | shapes  # mostly such that some archive is good
dtypes = st.sampled_from(["u1", "f4", "f8", "i4", "i8", "?", "U3", "c8", "M8[s]"])


def any_array(shape, dtype, seed, top):
    """Small numbers, sometimes with a NaN among them."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind in "fc":
        numbers = rng.choice([0, 0.5, 1, np.nan if seed % 3 == 0 else 0.1], shape)
    else:
        numbers = rng.integers(-1 if seed % 5 == 0 else 0, top, shape)
    return np.asarray(numbers).astype(dtype)


image_arrays = st.builds(
    any_array, image_shapes, st.just("u1") | dtypes, st.integers(0, 99), st.just(200)
)
label_arrays = st.builds(
    any_array,
    st.just((6,)) | shapes,
    st.just("i8") | dtypes,
    st.integers(0, 99),
    st.integers(1, 4),
)
archives = st.fixed_dictionaries(
    {
        "x_train": image_arrays,
        "y_train": label_arrays,
        "x_test": image_arrays,
        "y_test": label_arrays,
    }
)


def load(path):
    """Loads, and checks by other means what a loaded data set promises."""
    loaded = datasets.load(path)
    for part in ("train", "test"):
        images = getattr(loaded, f"{part}_inputs")
        labels = getattr(loaded, f"{part}_labels")
        assert images.dtype == np.uint8 and images.ndim == 4 and images.size
        assert labels.dtype == np.int32 and labels.shape == images.shape[:1]
        assert set(labels.tolist()) <= set(range(loaded.num_classes))
    assert set(loaded.train_labels.tolist()) == set(range(loaded.num_classes))
    assert loaded.train_inputs.shape[1:] == loaded.test_inputs.shape[1:]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(arrays=archives)
def test_any_archive_is_loaded_or_refused_with_a_reason(tmp_path_factory, arrays):
    path = tmp_path_factory.getbasetemp() / "any.npz"
    np.savez(path, **arrays)
    try:
        load(path)
    except ValueError as error:
        assert re.search("any.npz.*([xy]_|images|labels|class)", str(error)), error
        assert re.search(r": \w[^:]{8,}$", str(error)), error  # the remedy


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans()
)
def test_a_damaged_archive_is_refused_with_a_reason(
    tmp_path_factory, position, bit, cut
):
    archive = io.BytesIO()
    pixels, labels = (
        np.arange(6 * 12, dtype=np.uint8).reshape(6, 4, 3),
        np.arange(6) % 3,
    )
    np.savez(archive, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    content = bytearray(archive.getvalue())
    place = int(position * len(content))
    content[place] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(content[:place] if cut else content)
    try:
        load(path)  # not every bit of an archive means something
    except ValueError as error:
        assert "damaged.npz" in str(error)
    else:
        assert not cut
