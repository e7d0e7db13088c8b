"""Whatever is wrong with a configuration or a data set, one clear error says so."""


import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from cmwjax import train
from cmwjax.config import base_config

FIELDS = sorted(base_config().to_dict() | {})


def leaves(tree, prefix=""):
    """Names of all fields, `'optim.momentum'`, that are no group."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name


LEAVES = sorted(leaves(base_config().to_dict()))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 1, 2, 3, 7, 40, 2**31, 2**63]),
    st.floats(),
    st.sampled_from([0.0, 0.5, 1.0, 1e30]),
    st.text(max_size=5),
    st.sampled_from(
        ["erm", "plc", "asymmetric", "steps", "jit", "cifar10", "lowest_loss"]
    ),
)
values = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.lists(scalars, max_size=3).map(tuple),
    st.lists(st.tuples(scalars, scalars), max_size=2).map(tuple),
    st.dictionaries(st.text(max_size=4), scalars, max_size=2),
)


class Accepted(Exception):
    """Everything was checked that can be, and the folder would be made now."""


def begin(config):
    """`train.run` until it would write something."""
    with pytest.MonkeyPatch.context() as patch:

        def claim_folder(workdir, config):
            raise Accepted

        patch.setattr(train.record, "claim_folder", claim_folder)
        train.run(config, "never made")


@settings(max_examples=300, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(LEAVES), values, min_size=1, max_size=3))
def test_any_configuration_is_accepted_or_refused_with_a_reason(changes):
    tree = base_config().to_dict()
    for field, value in changes.items():
        *groups, name = field.split(".")
        group = tree
        for part in groups:
            group = group[part]
        group[name] = value
    try:
        begin(ConfigDict(tree))
    except Accepted:
        return
    except ValueError as error:
        message = str(error)
        assert len(message) > 20 and "\n" not in message.strip()
        named = [part for field in changes for part in field.split(".")[-1:]]
        assert any(name in message for name in named), message
