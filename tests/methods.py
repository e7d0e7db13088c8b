"""Methods as the trainer builds them, with small nets."""

from cmwjax.config import base_config
from cmwjax.methods import catalogue


def build(name, *, num_families=3, num_classes=4, **fields):
    """The method of this name; `fields` are those of a configuration that differ.

    Two underscores stand for a dot, as in `baseline__elr__momentum=0.5`.
    """
    config = base_config()
    fields = {field.replace("__", "."): value for field, value in fields.items()}
    config.update_from_flattened_dict({"weighting.hidden": 5, **fields, "method": name})
    return catalogue.build(config, num_families=num_families, num_classes=num_classes)
