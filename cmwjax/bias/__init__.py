"""What is wrong with the labels, and who is trusted: the problem a run learns from.

Label noise, long tails, published label sets, meta sets. Not here: how data are read
(`cmwjax.data`), and remedies (`cmwjax.methods`).
"""
