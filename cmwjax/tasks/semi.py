"""Semi-supervised learning: few samples have a label, most have none.

Outputs, losses and scores are those of partial labels: a label is a set of one
candidate, and without one every class is a candidate. So of a sample without a label
the loss is that of its likeliest class, and nothing is suspicious about it.
"""

from cmwjax.tasks.partial import PARTIAL

SEMI = PARTIAL._replace(semi=True)
