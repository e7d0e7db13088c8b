"""Folders as data sets are downloaded in, and what was prepared of them."""

import io
import shutil

import numpy as np
from PIL import Image


def jpeg(seed, mode="RGB", size=(24, 18)):
    """A small image that no other seed gives, encoded."""
    count = size[0] * size[1] * len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)
    file = io.BytesIO()
    Image.frombytes(mode, size, pixels.tobytes()).save(file, "JPEG")
    return file.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def examples(builder, split):
    """All examples of a split, read without decoding the images."""
    import tensorflow_datasets as tfds

    skip = {"image": tfds.decode.SkipDecoding()}
    return list(builder.as_data_source(split, decoders=skip))


def snapshot(root):
    """Names, contents and times of all files but the prepared ones."""
    return {
        path.relative_to(root): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file() and "prepared" not in path.parts
    }


def removed(*names):
    """Removes files and folders."""

    def change(root):
        for name in names:
            path = root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def edited(name, old, new):
    """Replaces something in a text file, once."""

    def change(root):
        path = root / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def cut_off(name, size):
    """Leaves the first bytes of a file."""

    def change(root):
        path = root / name
        path.write_bytes(path.read_bytes()[:size])

    return change
