"""Classifiers, one per file, and the weights they start from; `catalogue` lists them.

Linen modules `module(x, train) -> outputs`. Not here: how inputs are prepared for them
(`cmwjax.data.view`), and the weighting net (`cmwjax.core.weighting`).
"""
