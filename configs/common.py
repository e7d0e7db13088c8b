"""Arguments of configuration files: the part after the colon of `--config=FILE:...`."""

from typing import Any


def parse_arg(arg: str | None, **defaults: Any) -> dict[str, Any]:
    """Parses `a=1,b=x,flag` by the types of the defaults.

    Args:
      arg: the text after the colon, or None.
      **defaults: the arguments there are, and their values.

    Returns:
      The defaults, updated.

    Raises:
      ValueError: on an unknown name or a value of another type.
    """
    values = dict(defaults)
    for item in filter(None, (arg or "").split(",")):
        name, equals, text = item.partition("=")
        if name not in defaults:
            raise ValueError(
                f"unknown argument {name!r} after the colon of --config; "
                f"there are {sorted(defaults)}."
            )
        kind = type(defaults[name])
        try:
            if kind is bool:
                value = {"": True, "true": True, "false": False}[text.lower()]
            elif not equals:
                raise ValueError
            else:
                value = kind(text)
        except (ValueError, KeyError):
            raise ValueError(
                f"argument {item!r} after the colon of --config needs a value of type "
                f"{kind.__name__}, as in {name}={defaults[name]}."
            ) from None
        values[name] = value
    return values
