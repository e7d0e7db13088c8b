"""How fast images get from disk to a batch: this package's stream, and PyTorch's.

    python benchmarks/input.py --json=results/input.json

Both read the same JPEG files (made here, of a shorter side of 256 pixels, with the
spectrum of photographs), take a random resized crop of 224 x 224 and a flip, and
collect uint8 batches; ours are also placed on JAX's default device. Rounds alternate.
A round counts from the first batch on, so that the start of worker processes, told
apart, does not blur it. Per core means per second of processor time, of all processes
together: other load on the machine matters little to it.

PyTorch's side is a `DataLoader` with the transforms of torchvision, from torchvision
itself where it can be imported, else written anew with Pillow (the report says which).
Without torch, only our side is measured.
"""

import argparse
import datetime
import json
import math
import multiprocessing
import os
import pathlib
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from io import BytesIO
from typing import Any

import jax
import numpy as np
from PIL import Image

from cmwjax.core.parallel import layout
from cmwjax.data import on_disk
from cmwjax.data.decode import View
from cmwjax.data.order import Order, epoch_batches
from cmwjax.data.stream import Streamed, Views
from cmwjax.data.unreadable import Listed, Unreadable

SIZE, SHORTER = 224, 256


def write_images(folder: pathlib.Path, number: int) -> int:
    """Writes JPEG files as `train/class/*.jpg`; returns the bytes of all."""
    total = 0
    for split in ("train", "test"):
        (folder / split / "class").mkdir(parents=True)
    for i in range(number):
        rng = np.random.default_rng([0, i])
        longer = int(SHORTER * rng.uniform(1, 1.6))
        shape = (SHORTER, longer) if rng.random() < 0.75 else (longer, SHORTER)
        file = BytesIO()
        Image.fromarray(photograph(shape, rng)).save(file, "JPEG", quality=85)
        (folder / f"train/class/{i:05d}.jpg").write_bytes(file.getvalue())
        total += len(file.getvalue())
    first = (folder / "train/class/00000.jpg").read_bytes()
    (folder / "test/class/00000.jpg").write_bytes(first)
    return total


def photograph(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Random pixels, uint8 `[H, W, 3]`, whose power falls as in photographs."""
    y, x = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    amplitude = 1 / np.maximum(np.hypot(y, x), 1 / max(shape)) ** 1.25
    noise = rng.normal(size=(2, 3, *amplitude.shape))
    layers = np.fft.irfft2(amplitude * (noise[0] + 1j * noise[1]), shape, axes=(1, 2))
    pixels = layers.mean(0) * 2 + 0.5 * layers  # colours vary less than brightness
    pixels = 118 + 55 * (pixels - pixels.mean()) / pixels.std()
    return np.clip(np.moveaxis(pixels, 0, -1), 0, 255).astype(np.uint8)


def our_batches(folder, *, batch_size, batches, workers, seed) -> Iterator[Any]:
    """Batches of this package's stream."""
    files = on_disk.load(f"folder:{folder}", tests=["test"])
    view = View(SIZE, 0, "random_resized_crop", flip=True)
    positions = np.arange(len(files.train.labels))
    listed = Listed(positions, files.train.names)
    source = Streamed(
        "train",
        files.train.read,
        layout("jit", jax.devices()[:1]),
        views=Views(view, view, View(SIZE, SHORTER)),
        seed=seed,
        workers=workers,
        prefetch=2,
        unreadable=Unreadable(folder, {"train": listed}),
    )
    table = partial(
        epoch_batches, positions, batch_size=batch_size, shards=1, seed=seed
    )
    return source.training(Order(table, len(positions) // batch_size), range(batches))


class Folder:
    """The map-style data set of PyTorch's side."""

    def __init__(self, folder: pathlib.Path, transform: Callable[[Any], Any]) -> None:
        self._files = sorted(str(path) for path in folder.glob("train/class/*.jpg"))
        self._transform = transform

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Any:
        with Image.open(self._files[index]) as image:
            return self._transform(image.convert("RGB"))


def torchvision_transform() -> tuple[Callable[[Any], Any], str]:
    """Random resized crop, flip and uint8 tensor, and whose they are."""
    try:
        from torchvision import transforms
    except (ImportError, RuntimeError):  # absent, or made for another torch
        return pillow_transform, "written with Pillow; torchvision cannot be imported"
    steps = [
        transforms.RandomResizedCrop(SIZE, antialias=True),
        transforms.RandomHorizontalFlip(),
        transforms.PILToTensor(),
    ]
    name = f"torchvision {metadata.version('torchvision')}"
    return transforms.Compose(steps), name


def pillow_transform(image: Image.Image) -> Any:
    """What torchvision's transforms do, without their overhead."""
    import torch

    width, height, area = *image.size, image.width * image.height
    for _ in range(10):
        target = area * random.uniform(0.08, 1)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if w <= width and h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            break
    else:
        w = h = min(width, height)
        left, top = (width - w) // 2, (height - h) // 2
    image = image.crop((left, top, left + w, top + h))
    image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def torch_batches(
    folder, transform, *, batch_size, batches, workers, seed
) -> Iterator[Any]:
    """Batches of PyTorch's `DataLoader`."""
    from torch.utils.data import DataLoader

    dataset, rng = Folder(folder, transform), np.random.default_rng(seed)
    order: list[int] = []
    while len(order) < batches * batch_size:
        order += rng.permutation(len(dataset)).tolist()
    loader: Any = DataLoader(
        dataset,  # pyrefly: ignore[bad-argument-type]
        batch_size,
        sampler=order[: batches * batch_size],
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    return iter(loader)


def measure(batches: Iterator[Any], batch_size: int) -> dict[str, float]:
    """Images per second, by the clock and by processor time, after the first batch."""
    start = time.perf_counter()
    next(batches)
    first, used, images = time.perf_counter(), processor_seconds(), 0
    for _ in batches:
        images += batch_size
    seconds, used = time.perf_counter() - first, processor_seconds(before=used)
    return {
        "per_second": images / seconds,
        "per_core_second": images / used,
        "start_seconds": first - start,
    }


def processor_seconds(before: dict[int, float] | None = None) -> Any:
    """Of this process and its workers; with `before`, what was used since, in all.

    Workers that have ended meanwhile count as far as this process has waited for them.
    """
    tick = os.sysconf("SC_CLK_TCK")
    times = {0: sum(os.times()[:4])}  # with children that have ended
    for child in multiprocessing.active_children():
        stat = pathlib.Path(f"/proc/{child.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        times[child.pid or -1] = sum(map(int, fields[11:13])) / tick
    if before is None:
        return times
    # A worker that has ended is now part of what this process waited for.
    return sum(times.values()) - sum(before.values())


def main() -> None:
    """Parses the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batches", type=int, default=41, help="of a round")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path, help="file to write")
    args = parser.parse_args()

    sides: dict[str, Callable[..., Iterator[Any]]] = {"cmwjax": our_batches}
    versions = {"jax": jax.__version__}
    transforms = None
    try:
        import torch
    except ImportError:
        print("torch is not installed; PyTorch's DataLoader is left out.")
    else:
        torch.set_num_threads(1)
        transform, transforms = torchvision_transform()
        sides["torch"] = lambda folder, **kwargs: torch_batches(
            folder, transform, **kwargs
        )
        versions["torch"] = torch.__version__
    rows: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        total = write_images(folder, args.images)
        for i in range(args.rounds):
            for workers in (0, args.workers):
                for side, batches_of in sides.items():
                    batches = batches_of(
                        folder,
                        batch_size=args.batch,
                        batches=args.batches,
                        workers=workers,
                        seed=i,
                    )
                    row = measure(batches, args.batch)
                    rows.setdefault(f"{side}, {workers} workers", []).append(row)
                    print(f"round {i}, {side}, {workers} workers: {row}", flush=True)
    medians = {
        key: {
            field: float(np.median([row[field] for row in found])) for field in found[0]
        }
        for key, found in rows.items()
    }
    print(f"{'':>20} {'images/s':>9} {'per core':>9} {'start s':>8}")
    for key, row in medians.items():
        print(
            f"{key:>20} {row['per_second']:>9.0f} {row['per_core_second']:>9.0f} "
            f"{row['start_seconds']:>8.2f}"
        )
    if args.json:
        report = {
            "date": datetime.date.today().isoformat(),
            "python": platform.python_version(),
            **versions,
            "pillow": metadata.version("pillow"),
            "torch_transforms": transforms,
            "cores": os.cpu_count(),
            "load_average": os.getloadavg(),
            "mean_bytes": total / args.images,
            "batch": args.batch,
            "batches": args.batches,
            "medians": medians,
            "rounds": rows,
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
