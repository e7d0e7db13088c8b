"""A run at work: compiled steps, scores, checkpoints, and the state that goes on.

Not here: the loop itself (`cmwjax.train`), and how the files that a run leaves are read
and drawn (`cmwjax.report`).
"""
