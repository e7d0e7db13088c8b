"""From an archive, a folder or a TFDS data set to rows on the devices.

Reading, checking, decoding, augmenting, and the order of visits. Not here: what is
wrong with the labels and who is trusted (`cmwjax.bias`).
"""
