"""How each method is drawn, the same in every figure."""

from typing import Any

from cmwjax.methods.catalogue import METHODS, method_of, title
from cmwjax.report.plot_style import METHOD_COLOURS

METHOD_STYLES: dict[
    str, tuple[str, dict[str, Any]]
] = {  # label and line of each method
    "erm": ("ERM", dict(color=METHOD_COLOURS["erm"], linewidth=2)),
    "mw_net": (
        "MW-Net",
        dict(color=METHOD_COLOURS["mw_net"], linewidth=2, linestyle=(0, (4, 1.5))),
    ),
    "cmw_net": ("CMW-Net", dict(color=METHOD_COLOURS["cmw_net"], linewidth=3)),
}


def method_style(method: str) -> tuple[str, dict[str, Any]]:
    """Label and line of any method; the thin lines of baselines repeat ten colours."""
    if method in METHOD_STYLES:
        return METHOD_STYLES[method]
    own = sum(map(ord, method.removeprefix(method_of(method))))  # 0 but for variants
    color = list(METHODS).index(method_of(method)) + own
    return title(method), dict(color=f"C{color % 10}", linewidth=1.2)
