"""A data set that TensorFlow Datasets has prepared, as its folder describes it.

TFDS itself is needed where a set is prepared, never where it is read: the folder says
in JSON what is in it (https://www.tensorflow.org/datasets/external_tfrecord), so that
sets stay readable whatever becomes of the library.
"""

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from cmwjax.files import expanded

INFO = "dataset_info.json"
VERSION = re.compile(r"\d+\.\d+\.\d+")
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


class Shard(NamedTuple):
    """A file of records."""

    path: Path
    size: int  # records in it


class Prepared(NamedTuple):
    """What was prepared, and where."""

    folder: Path
    full_name: str  # NAME/VERSION or NAME/CONFIG/VERSION, as TFDS says it
    file_format: str
    splits: dict[str, tuple[Shard, ...]]
    features: tuple[str, ...]
    class_names: tuple[str, ...]  # of the feature 'label'; (): it is no class


def find(name: str) -> Prepared:
    """Opens a prepared data set.

    Args:
      name: `NAME`, `NAME/CONFIG` or either with `:VERSION`, in the folder that the
        environment variable `TFDS_DATA_DIR` names or `~/tensorflow_datasets`; or a
        folder. Without a version it is the newest; without a configuration the one that
        TFDS has kept as the default, or the only one.

    Raises:
      ValueError: if there is none, it is one of several, or is damaged.
    """
    folder = expanded(name)
    if folder.is_dir():
        return read(_version(folder) or folder)
    root = expanded(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    base, _, version = name.partition(":")
    folder = _version(root / base, version)
    if folder is None and "/" not in base:
        folder = _version(root / base / _config(root / base), version)
    if folder is None:
        raise ValueError(
            f"data: there is no data set {name!r} in {root}: correct config.data.name, "
            "prepare it first (tfds build --file_format=array_record), or set "
            "TFDS_DATA_DIR."
        )
    return read(folder)


def read(folder: Path) -> Prepared:
    """Opens the data set of a folder, that of a version.

    Raises:
      ValueError: if there is none, or what describes it is damaged.
    """
    info, features = _json(folder / INFO), _json(folder / "features.json")
    try:
        kinds = features["featuresDict"]["features"]
        splits = {
            split["name"]: _shards(folder, info, split) for split in info["splits"]
        }
        names = (info["name"], info.get("configName"), info["version"])
        labels = kinds.get("label", {}).get("classLabel")
        count = 0 if labels is None else int(labels["numClasses"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"data: {folder / INFO} or the features.json beside it is damaged "
            f"({error!r}): prepare the data set anew."
        ) from error
    return Prepared(
        folder,
        "/".join(filter(None, names)),
        info.get("fileFormat", "tfrecord"),
        splits,
        tuple(kinds),
        _class_names(folder, count) if count else (),
    )


def _config(folder: Path) -> str:
    """The configuration to read where none is named; '' if there is none."""
    kept = folder / ".config" / "metadata.json"
    if kept.is_file():
        default = _json(kept).get("default_config_name")
        if default and _version(folder / default):
            return default
    configs = sorted(place.name for place in folder.glob("*/") if _version(place))
    if len(configs) > 1:
        raise ValueError(
            f"data: {folder} has the configurations {', '.join(configs)}: name one, as "
            f"tfds:{folder.name}/{configs[0]}."
        )
    return configs[0] if configs else ""


def _version(folder: Path, version: str = "") -> Path | None:
    """The folder of a version, the newest unless it is named."""
    if version:
        named = folder / version
        return named if (named / INFO).is_file() else None
    found = [
        place
        for place in folder.glob("*/")
        if VERSION.fullmatch(place.name) and (place / INFO).is_file()
    ]
    return max(found, key=lambda p: tuple(map(int, p.name.split("."))), default=None)


def _shards(folder: Path, info: Any, split: Any) -> tuple[Shard, ...]:
    sizes = [int(size) for size in split.get("shardLengths", ())]
    template = split.get("filepathTemplate", TEMPLATE)
    number = f"{len(sizes):05d}"

    def path(shard: int) -> Path:
        name = template.format(
            DATASET=info["name"],
            SPLIT=split["name"],
            FILEFORMAT=info.get("fileFormat", "tfrecord"),
            SHARD_INDEX=f"{shard:05d}",
            NUM_SHARDS=number,
            SHARD_X_OF_Y=f"{shard:05d}-of-{number}",
        )
        return folder / name

    return tuple(Shard(path(i), size) for i, size in enumerate(sizes) if size)


def _class_names(folder: Path, count: int) -> tuple[str, ...]:
    """What our own builders have in the metadata, TFDS beside it; else numbers."""
    metadata, names = folder / "metadata.json", folder / "label.labels.txt"
    if metadata.is_file():
        own = _json(metadata).get("class_names")
        if own:
            return tuple(own)
    if names.is_file():
        return tuple(names.read_text("utf-8").splitlines())
    return tuple(map(str, range(count)))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"data: there is no {path}: it is no data set that TFDS prepared, or it is "
            "damaged."
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"data: {path} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"data: {path} is damaged: it holds no JSON object.")
    return content
