"""Weighting functions that come with the package, as `zoo:NAME`.

`index.json` says of each what it was learned on, and benchmarks/zoo.py what each does
elsewhere. Not here: how such a file is read (`core/weighting_file.py`).
"""

import json
from pathlib import Path

PREFIX = "zoo:"
_FOLDER = Path(__file__).parent


def weighting_zoo() -> dict[str, str]:
    """What there is: by the name of each function, what it was learned on.

    >>> sorted(weighting_zoo())[0]
    'cifar10_hybrid_asym'
    """
    return json.loads((_FOLDER / "index.json").read_text(encoding="utf-8"))


def zoo_file(name: str) -> Path:
    """The file of a function.

    Args:
      name: `zoo:` and one of the names in `weighting_zoo()`.

    Raises:
      ValueError: for another name.
    """
    names = sorted(weighting_zoo())
    if name.removeprefix(PREFIX) not in names:
        raise ValueError(
            f"{name!r} is no weighting function of the zoo: choose one of "
            f"{[PREFIX + n for n in names]}, or give the path of a file."
        )
    return _FOLDER / f"{name.removeprefix(PREFIX)}.safetensors"
