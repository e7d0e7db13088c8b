"""The methods that one trainer runs, by name: the one list of them.

A method is a function `(context, **options) -> Method`, a loss one of `(**options) ->
Method`. Options are keywords with defaults; together they are `config.baseline`.
"""

import inspect
from collections.abc import Callable, Container, Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

from cmwjax.core.labels import (
    ABSTENTION,
    CLASSES,
    LOGITS,
    PREDICTIONS,
    SEMI,
    SETS,
)
from cmwjax.methods import cmw_net, losses, slot_weights
from cmwjax.methods.class_sizes import class_balanced, ldam, ldam_drw
from cmwjax.methods.cmw_net import with_mixup, with_soft_labels
from cmwjax.methods.elr import elr
from cmwjax.methods.fixmatch import fixmatch
from cmwjax.methods.forward import forward
from cmwjax.methods.method import Context, Losses, Method, OptionError, cross_entropy
from cmwjax.methods.partial import cc, proden
from cmwjax.methods.plc import plc
from cmwjax.methods.rrm import rrm
from cmwjax.methods.selective import sat, with_abstention
from cmwjax.methods.symmetric import symmetric
from cmwjax.methods.teacher import Averaging

VARIANT = "@"  # METHOD@NAME: a row of a comparison whose fields differ
OF_TASK = "task"  # the loss of `config.loss` that the task brings along


class Entry(NamedTuple):
    """A method or a loss.

    Attributes:
      title: its name in tables and figures.
      build: makes it.
      needs: the kinds of labels, or what outputs of a model, without one of which it
        cannot work, see `cmwjax.core.labels`; None: it takes losses as they come.
    """

    title: str
    build: Callable[..., Method]
    needs: str | tuple[str, ...] | None = LOGITS

    def works_with(self, offers: Container[str | None]) -> bool:
        """Whether a task that has these kinds of labels and outputs is enough."""
        if isinstance(self.needs, tuple):
            return any(need in offers for need in self.needs)
        return self.needs is None or self.needs in offers


# The losses that `config.loss` chooses among, for methods that have none of their own.
LOSSES = {
    "cross_entropy": Entry("Cross entropy", losses.cross_entropy),
    "label_smoothing": Entry("Label smoothing", losses.label_smoothing),
    "focal": Entry("Focal", losses.focal),
    "gce": Entry("GCE", losses.gce),
    "ldam": Entry("LDAM", ldam),
    "symmetric": Entry("Symmetric CE", symmetric),
    "squared_error": Entry("Squared error", losses.squared_error, PREDICTIONS),
    "huber": Entry("Huber", losses.huber, PREDICTIONS),
    "proden": Entry("PRODEN", proden, SETS),
    "cc": Entry("CC", cc, SETS),
    "fixmatch": Entry("FixMatch", fixmatch, SEMI),
    "sat": Entry("SAT", sat, ABSTENTION),
    OF_TASK: Entry("Loss of the task", Method, None),
}


def _alone(name: str) -> Entry:
    """The method that minimises a loss of `LOSSES`, unweighted."""

    def build(context, **options):
        del context
        return LOSSES[name].build(**options)

    return Entry(LOSSES[name].title, build, LOSSES[name].needs)


METHODS = {
    "erm": Entry("ERM", losses.erm, None),
    "trusted_only": Entry("Trusted alone", losses.trusted_only, None),
    "erm_mixup_ema": Entry("ERM + MixUp + EMA", with_mixup(losses.erm), None),
    "label_smoothing": _alone("label_smoothing"),
    "focal": _alone("focal"),
    "gce": _alone("gce"),
    "class_balanced": Entry("Class-balanced", class_balanced, CLASSES),
    "ldam_drw": Entry("LDAM-DRW", ldam_drw),
    "forward": Entry("Forward", forward),
    "elr": Entry("ELR", elr),
    "plc": Entry("PLC", plc),
    "rrm": Entry("RRM", rrm, (LOGITS, SETS)),
    "constant": Entry("Constant V", cmw_net.constant, None),
    "l2rw": Entry("L2RW", slot_weights.l2rw, None),
    "mcw": Entry("MCW", slot_weights.mcw, CLASSES),
    "mw_net": Entry("MW-Net", cmw_net.mw_net, None),
    "cmw_net": Entry("CMW-Net", cmw_net.cmw_net, None),
    "per_class": Entry("Per-class V", cmw_net.per_class, CLASSES),
    "cmw_net_mixup": Entry("CMW-Net + MixUp + EMA", with_mixup(cmw_net.cmw_net), None),
    "constant_sl": Entry("Constant V, SL", with_soft_labels(cmw_net.constant)),
    "mw_net_sl": Entry("MW-Net-SL", with_soft_labels(cmw_net.mw_net)),
    "cmw_net_sl": Entry("CMW-Net-SL", with_soft_labels(cmw_net.cmw_net)),
    "constant_abstain": Entry(
        "Constant V + abstention", with_abstention(cmw_net.constant), ABSTENTION
    ),
    "cmw_net_abstain": Entry(
        "CMW-Net + abstention", with_abstention(cmw_net.cmw_net), ABSTENTION
    ),
}
# A loss that is a row above and not one here is a method of its own all the same, but
# for those that are ERM by its own name.
_OF_ERM = ("cross_entropy", OF_TASK)
METHODS |= {n: _alone(n) for n in LOSSES if n not in (*METHODS, *_OF_ERM)}


def build(
    config: Any,
    *,
    num_families: int = 1,
    num_classes: int = 2,
    task_losses: Losses = cross_entropy,
) -> Method:
    """The method that a configuration names.

    Args:
      config: fields `method`, `loss` and `baseline`, and the groups that methods read.
      num_families: families of classes that CMW-Net tells apart.
      num_classes: C, for the method that has one weighting net for each.
      task_losses: what `config.loss='task'` stands for.

    Raises:
      ValueError: naming the field of an option that is out of range.
    """
    context = _context(config, num_families, num_classes, task_losses)
    return _build(config.method, context)


def check_options(config: Any) -> None:
    """Raises `ValueError` for an option out of range, of whatever method or loss."""
    context = _context(config)
    for name in METHODS:
        _build(name, context)


def default_options() -> dict[str, dict[str, Any]]:
    """The options of every method and loss that has some, with their defaults."""
    options = {}
    for name, entry in (METHODS | LOSSES).items():
        parameters = inspect.signature(entry.build).parameters.values()
        keywords = {p.name: p.default for p in parameters if p.kind == p.KEYWORD_ONLY}
        if keywords:
            options[name] = keywords
    return options


def method_of(row: str) -> str:
    """The method of a row of a comparison, with or without the name of a variant."""
    return row.partition(VARIANT)[0]


def title(row: str) -> str:
    """The name of a row in tables and figures: 'CMW-Net', or 'CMW-Net, its name'."""
    method, _, variant = row.partition(VARIANT)
    name = METHODS[method].title
    return f"{name}, {variant.replace('_', ' ')}" if variant else name


def _context(
    config: Any,
    num_families: int = 1,
    num_classes: int = 2,
    task_losses: Losses = cross_entropy,
) -> Context:
    def loss(name):
        if name == OF_TASK:
            return Method(task_losses)
        with _named(name):
            return LOSSES[name].build(**config.baseline.get(name, {}))

    return Context(config, loss, num_families, num_classes)


def _build(name: str, context: Context) -> Method:
    with _named(name):
        method = METHODS[name].build(context, **context.config.baseline.get(name, {}))
    if method.averages and method.teacher is None:
        method = method._replace(teacher=Averaging(**context.config.ema))
    return method


@contextmanager
def _named(name: str) -> Generator[None, None, None]:
    """Errors of options tell their field."""
    try:
        yield
    except OptionError as error:
        raise ValueError(f"config.baseline.{name}.{error}") from None
