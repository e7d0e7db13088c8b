"""Small image sets as files, with pixels that are known."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

SIZE, CLASSES = 10, 3
BROKEN = {
    "empty": b"",
    "not an image": b"<html>404</html>",
    "damaged": None,  # half of a good file
}


def encoded(pixels, format="PNG", **options):
    """An image file, from uint8 `[H, W, 3]` or an image."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def random_pixels(seed, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def write_folder(folder, *, train=60, test=21, splits=("test",), size=SIZE):
    """`folder/SPLIT/CLASS/NUMBER.png` and the same in `set.npz`, in the same order.

    Images of class c are brighter in channel c, so that they can be learned; class 0 is
    the smallest, class 2 the largest.
    """
    arrays = {}
    for split in ("train", *splits):
        number = (train if split == "train" else test) // CLASSES
        labels = np.repeat(np.arange(CLASSES), (number - 3, number, number + 3))
        pixels = []
        for i, label in enumerate(labels):
            x = random_pixels([i, len(split)], size) // 2
            x[..., label] += 60
            path = Path(folder, split, f"class{label}", f"{i:04d}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(x))
            pixels.append(x)
        arrays |= {f"x_{split}": np.array(pixels), f"y_{split}": labels}
    np.savez(Path(folder, "set.npz"), **arrays)
    return arrays


def files(folder, split="train"):
    """Paths in the order of the set."""
    return sorted(Path(folder, split).glob("*/*.png"))


def break_file(path, kind):
    content = BROKEN[kind]
    path.write_bytes(path.read_bytes()[:-60] if content is None else content)
