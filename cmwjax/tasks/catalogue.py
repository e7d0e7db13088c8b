"""The tasks by name: the one list of them."""

from cmwjax.tasks.classification import CLASSIFICATION

TASKS = {"classification": CLASSIFICATION}
