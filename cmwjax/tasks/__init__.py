"""What a label is and an output means: classification, partial labels, regression, ...

Width of the last layer, losses, scores of samples, metrics of a set. Not here: what is
minimised in training, and how it is weighted (`cmwjax.methods`).
"""
