"""What tells methods apart: ERM, baselines, MW-Net, CMW-Net, CMW-Net-SL.

A loss, a way to weight it, what is remembered of samples. Not here: losses that are of
use to anybody's loop (`cmwjax.core.losses`), and the compiled steps around a method
(`cmwjax.training`).
"""
