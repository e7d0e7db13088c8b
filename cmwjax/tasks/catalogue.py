"""The tasks by name: the one list of them."""

from cmwjax.tasks.classification import CLASSIFICATION
from cmwjax.tasks.ordinal import ORDINAL
from cmwjax.tasks.partial import PARTIAL
from cmwjax.tasks.regression import REGRESSION
from cmwjax.tasks.selective import SELECTIVE
from cmwjax.tasks.semi import SEMI

TASKS = {
    "classification": CLASSIFICATION,
    "ordinal": ORDINAL,
    "partial": PARTIAL,
    "regression": REGRESSION,
    "selective": SELECTIVE,
    "semi": SEMI,
}
