"""TFDS builders of data sets that the TFDS catalogue does not have.

Each is a folder of its own, laid out as TFDS lays out its data sets, and imports TFDS
only when it prepares or reads data. What they share is beside them: `preparation`
prepares a data set and opens it, `contents` is what one was found to hold, `images` and
`tables` find its files and read its lists, `record_builder` writes the records, and
`pictures` draws made-up examples.
"""
