"""TFDS builders of data sets that the TFDS catalogue does not have.

Each is a folder of its own, laid out as TFDS lays out its data sets, and imports TFDS
only when it prepares or reads data.
"""
