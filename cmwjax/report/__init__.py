"""The files that a run leaves: written, read again, and drawn.

Metrics by epoch, the ranked samples, the description of the problem, figures. Not here:
checkpoints (`cmwjax.training`), and the portable weighting function (`cmwjax.core`).
"""
