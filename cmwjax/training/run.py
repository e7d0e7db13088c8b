"""A run: what stays the same while it goes on, and what changes."""

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from cmwjax.bias.meta_set import LABELLED, TRUSTED
from cmwjax.bias.problem import Problem, prepare
from cmwjax.compilation import Clock
from cmwjax.config_check import check_config
from cmwjax.data import view as views
from cmwjax.data.dataset import Dataset
from cmwjax.data.order import (
    Order,
    epoch_batches,
    meta_batch_size,
    meta_batches,
    mixed_batches,
)
from cmwjax.data.sources import Samples
from cmwjax.data.unreadable import Unreadable
from cmwjax.data.view import Spec
from cmwjax.files import CHECKPOINTS, UNREADABLE, expanded
from cmwjax.models.heads import LAYERS
from cmwjax.report.problem import check_data
from cmwjax.tasks.catalogue import TASKS
from cmwjax.training import history
from cmwjax.training import program as programs
from cmwjax.training.checkpoints import Checkpoints, to_host
from cmwjax.training.evaluate import Scores
from cmwjax.training.health import (
    check_finite,
    check_scores,
    check_skips,
)
from cmwjax.training.outputs import check_slices
from cmwjax.training.program import Program
from cmwjax.training.sets import Sets, build_sets, frequencies, listed_sets
from cmwjax.training.state import RunState, Saved, first
from cmwjax.training.steps import lookahead_layers
from cmwjax.training.workdir import check_folder


class Run(NamedTuple):
    """What stays the same while a run goes on."""

    config: ConfigDict
    workdir: Path
    problem: Problem  # what it learns from
    order: Order  # in which training visits its samples
    program: Program  # the compiled functions
    sets: Sets  # the samples, on the devices or on their way there
    unreadable: Unreadable  # the list of images that could not be read
    checkpoints: Checkpoints
    start: Saved  # what would be saved before the first step, on the host
    has_own_model: bool  # whether the classifier is no model of the catalogue

    @property
    def steps_per_epoch(self) -> int:
        """Steps in each epoch."""
        return self.order.steps_per_epoch

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.epochs * self.steps_per_epoch

    def score(
        self, state: RunState, samples: Samples, index: NDArray, of: str
    ) -> Scores:
        """Scores of the samples `index`, all of them finite.

        Raises:
          Diverged: if a score is not; it says what the samples are `of`.
          ValueError: if no input could be read.
        """
        if samples.table.labels is self.sets.train.table.labels:
            samples = self.program.remembered(state, samples)
        scores = self.program.score(state, samples, index)
        if not np.any(scores.seen):
            self.unreadable.write()
            raise ValueError(
                f"data: none of the {len(index)} images of the {of} set could be read, "
                f"see {UNREADABLE} in {self.workdir}: correct the data."
            )
        check_scores(scores, of, self.config, self.last_good)
        return scores

    def summary(
        self, scores: Scores, labels: NDArray, *, at_the_end: bool = False
    ) -> dict[str, Any]:
        """Metrics of scores, against labels `[N]` in the units of the data.

        Args:
          scores: of these samples.
          labels: of them.
          at_the_end: whether to add those that a task has at the end of a run.
        """
        task, in_units = self.program.task, self.problem.dataset.in_units
        metrics = scores.summary(task.summary, labels, in_units)
        if at_the_end:
            metrics |= scores.summary(task.at_the_end, labels, in_units)
        return metrics

    def score_training(
        self, state: RunState, frequencies: NDArray | None = None
    ) -> Scores:
        """Scores of the training samples, in the order of `problem.train_index`.

        Args:
          state: whose classifier judges.
          frequencies: `[G]`, see `sets.frequencies`; by default class sizes.
        """
        samples = self._with(frequencies)
        return self.score(state, samples, self.problem.train_index, of="training")

    def score_validation(
        self, state: RunState, frequencies: NDArray | None = None
    ) -> Scores | None:
        """Scores in the order of `problem.validation_index`; None if that is empty."""
        index = self.problem.validation_index
        if not index.size:
            return None
        return self.score(state, self._with(frequencies), index, of="validation")

    def _with(self, frequencies: NDArray | None) -> Samples:
        samples = self.sets.train
        if frequencies is None:
            return samples
        frequencies = self.program.layout.replicate(frequencies)
        return samples._replace(table=samples.table._replace(frequencies=frequencies))

    def weights(self, state: RunState, scores: Scores) -> NDArray[np.floating]:
        """Weights of the training samples, `[N]`: by their scores, or remembered."""
        remembered = self.program.weights(state, self.problem.train_index)
        return scores.weights if remembered is None else remembered

    def looks_before(self, epoch: int) -> bool:
        """Whether all labels are judged before this epoch, beside at the end."""
        every = self.config.audit_every
        return every > 0 and epoch > 0 and epoch % every == 0

    def has_meta_steps(self, epoch: int) -> bool:
        """Whether weights are learned in this epoch."""
        return self.program.method.has_meta_step and epoch >= self.config.warmup_epochs

    def meta_order(self, meta_set: NDArray | None) -> Order:
        """The order in which meta steps visit the positions `meta_set`, `[M]`."""
        size = self.config.meta_set.batch_size
        return _meta_order(self.config, meta_set, size, self.steps_per_epoch)

    def last_good(self) -> int | None:
        """Step of the newest checkpoint that is whole, when everything is written."""
        return self.checkpoints.last


@dataclasses.dataclass
class Progress:
    """What changes while a run goes on.

    Attributes:
      state: what changes on the devices.
      meta_set: positions of the meta set of this epoch, int32 `[M]`, if there is one.
      step: steps that are done.
      began: when the epoch began, by `time.perf_counter`; earlier by what other
        processes have spent on it before.
      compiling: counts the seconds of the epoch in which programs were compiled.
      stall: seconds of the epoch in which training waited for checkpoints.
      quality: of labels, float32 `[N]`, summed over the looks at all training samples.
      looks: how many there were.
      frequencies: float32 `[G]`, by which the next one judges; see `sets.frequencies`.
      history: of a few samples, see `cmwjax.training.history`.
      warned: whether it was said that the weights have collapsed.
      exploded: whether it was said that losses are far too large.
    """

    state: RunState
    meta_set: NDArray | None
    step: int
    began: float
    compiling: Clock
    quality: NDArray[np.float32]
    frequencies: NDArray[np.float32]
    history: NDArray[np.float32]
    looks: int = 0
    stall: float = 0.0
    warned: bool = False
    exploded: bool = False

    @classmethod
    def of(cls, run: Run, saved: Saved) -> "Progress":
        """The moment at which something was saved."""
        # Some runs were saved before the last one was counted.
        seconds, stall, compiling = [*saved.seconds.tolist(), 0.0][:3]
        return cls(
            state=run.program.place(saved.run),
            meta_set=saved.meta_set,
            step=int(saved.run.learner.step),
            began=time.perf_counter() - seconds,
            compiling=Clock(compiling),
            quality=saved.quality,
            frequencies=saved.frequencies,
            history=saved.history,
            looks=int(saved.looks),
            stall=stall,
        )

    @property
    def seconds(self) -> float:
        """How long this epoch has taken by now."""
        return time.perf_counter() - self.began

    def begin_epoch(
        self, state: RunState, meta_set: NDArray | None, clock: float, compiled: float
    ) -> None:
        """Enters the next epoch.

        Args:
          state: at its first step.
          meta_set: its own.
          clock: when it began.
          compiled: seconds of compiling that were counted until then.
        """
        self.state, self.meta_set = state, meta_set
        self.began, self.stall = clock, 0.0
        self.compiling.seconds -= compiled

    def quality_with(
        self, run: Run, scores: Scores, validation: Scores | None
    ) -> NDArray[np.float32]:
        """Sums of the qualities of labels, of another look as well; `[N]`.

        Args:
          run: what is trained.
          scores: of `Run.score_training`.
          validation: of `Run.score_validation`.
        """
        total = self.quality.copy()
        total[run.problem.train_index] += scores.quality
        if validation is not None:
            total[run.problem.validation_index] += validation.quality
        return total

    def save(self, run: Run) -> None:
        """Saves it, behind the back of training, which waits only for a copy.

        Raises:
          Diverged: if too many updates in a row were skipped, or what would be saved
            is not finite; nothing is saved then.
        """
        jax.block_until_ready(self.state)
        begin = time.perf_counter()
        seconds = self.seconds, self.stall, self.compiling.seconds
        now = run.start.at(
            run.program.whole(self.state),
            self.meta_set,
            seconds,
            self.quality,
            self.looks,
            self.frequencies,
            self.history,
        )
        host = to_host(now)
        check_skips(host.run.learner, run.config, run.last_good)
        check_finite(host.run.learner, run.last_good)
        run.unreadable.write()
        run.checkpoints.save(self.step, host)
        self.stall += time.perf_counter() - begin


def assemble(
    config: ConfigDict,
    workdir: str | Path,
    *,
    arrays: Dataset | None = None,
    model: nn.Module | None = None,
    devices: tuple[jax.Device, ...] | None = None,
) -> Run:
    """Loads the data, builds model and steps, and checks it all; writes nothing.

    Args:
      config: see `cmwjax.config.base_config`.
      workdir: a new or empty folder, or that of a run of this configuration.
      arrays: the data set, in place of the one that `config.data.name` names, which
        then is no more than what errors call it.
      model: the classifier, a Linen module that is called as `module(inputs, train)`,
        inputs as the view of the data prepares them (images float32 `[B, H, W,
        channels]`), and returns logits `[B, C]`; in place of `config.model`. If
        its batch statistics are to be those of all devices, they must be reduced over
        the axis `'data'`, but for `config.parallel='jit'`.
      devices: what to run on, by default everything there is.

    Raises:
      ValueError: if configuration, folder, data, model or devices are unfit, or the
        run in the folder learned from other data.
    """
    check_config(config)
    workdir = expanded(workdir)
    check_folder(workdir, config)
    problem = prepare(config, arrays)
    order = _training_order(config, problem)
    inputs = problem.dataset.spec
    if model is not None:
        check_model(model, config, inputs, problem.dataset.num_classes)
    program = build_program(
        config, problem, order.steps_per_epoch, devices=devices, model=model
    )
    if program.method.trusted_only:
        order = _meta_order(
            config,
            _meta_pool(config, problem),
            config.data.batch_size,
            order.steps_per_epoch,
        )
    unreadable = Unreadable(workdir, listed_sets(problem), problem.dataset.left_out)
    sets = build_sets(
        config,
        problem,
        layout=program.layout,
        method=program.method,
        view=program.view,
        unreadable=unreadable,
    )
    checkpoints = Checkpoints(
        workdir / CHECKPOINTS, keep=config.checkpoint.keep, config=config.to_dict()
    )
    initial = to_host(program.whole(program.init(config.seed, problem)))
    start = first(initial, problem, frequencies(problem), history.blank(config))
    check_data(workdir, start.data.tobytes())
    return Run(
        config=config,
        workdir=workdir,
        problem=problem,
        order=order,
        program=program,
        sets=sets,
        unreadable=unreadable,
        checkpoints=checkpoints,
        start=start,
        has_own_model=model is not None,
    )


def check_run(config: ConfigDict, problem: Problem) -> None:
    """Refuses a run before another one is made; trains and writes nothing.

    Args:
      config: a checked configuration.
      problem: what the run would learn from.

    Raises:
      ValueError: if batches, meta set, model, method or devices are unfit.
    """
    steps_per_epoch = _training_order(config, problem).steps_per_epoch
    build_program(config, problem, steps_per_epoch).check_model()


def build_program(
    config: ConfigDict,
    problem: Problem,
    steps_per_epoch: int,
    *,
    devices: tuple[jax.Device, ...] | None = None,
    model: nn.Module | None = None,
) -> Program:
    """Builds what a run computes, and checks that its meta set suffices.

    Raises:
      ValueError: as `program.build`; for a meta set with fewer samples than shards;
        or a batch that cannot be cut into `config.optim.accumulate` slices.
    """
    program = programs.build(
        programs.shared_part(config),
        inputs=problem.dataset.spec,
        num_classes=problem.dataset.num_classes,
        num_groups=problem.num_groups,
        num_families=len(problem.families.centres),
        steps_per_epoch=steps_per_epoch,
        trusted_share=_trusted_share(config, problem),
        devices=devices,
        model=model,
    )
    method = program.method
    sizes = {} if method.trusted_only else {"data": config.data.batch_size}
    if method.has_meta_step or method.trusted_only:
        group = "data" if method.trusted_only else "meta_set"
        sizes[group] = meta_batch_size(
            len(_meta_pool(config, problem)),
            batch_size=config[group].batch_size,
            shards=config.data.shards,
        )
    for group, size in sizes.items():
        check_slices(
            f"{group}.batch_size",
            size,
            accumulate=config.optim.accumulate,
            devices=len(program.layout.devices),
        )
    return program


def _meta_pool(config: ConfigDict, problem: Problem) -> NDArray[np.int32]:
    """The positions that the meta set is, or is drawn from."""
    if config.meta_set.policy == LABELLED:
        return problem.labelled_index
    held_out = problem.meta_index
    return problem.train_index if held_out is None else held_out


def _trusted_share(config: ConfigDict, problem: Problem) -> float:
    """Share of trusted samples in what the classifier learns at a meta step."""
    trusted, share = problem.meta_index, config.meta_set.trusted_share
    if trusted is None or config.meta_set.policy not in TRUSTED:
        return 0.0
    of_all = len(trusted) / (len(trusted) + len(problem.train_index))
    return share if share >= 0 else of_all


def _training_order(config: ConfigDict, problem: Problem) -> Order:
    if TASKS[config.task].semi:
        labelled = problem.labelled_index
        table = partial(
            mixed_batches,
            labelled,
            np.setdiff1d(problem.train_index, labelled),
            batch_size=config.data.batch_size,
            ratio=config.semi.mu,
            shards=config.data.shards,
            seed=config.seed,
        )
        return Order(table, len(table(epoch=0)), period=1)  # labels return within it
    table = partial(
        epoch_batches,
        problem.train_index,
        batch_size=config.data.batch_size,
        shards=config.data.shards,
        seed=config.seed,
    )
    return Order(table, len(table(epoch=0)))


def _meta_order(
    config: ConfigDict, meta_set: NDArray | None, batch_size: int, steps_per_epoch: int
) -> Order:
    table = partial(
        meta_batches,
        meta_set,
        batch_size=batch_size,
        shards=config.data.shards,
        seed=config.seed,
        steps=steps_per_epoch,
    )
    return Order(table, steps_per_epoch, period=1)  # samples return within an epoch


def check_model(
    model: nn.Module, config: ConfigDict, inputs: Spec, num_classes: int
) -> None:
    """Refuses a module that has no use for these inputs; computes nothing.

    Args:
      model: called as `module(inputs, train)`.
      config: a checked configuration.
      inputs: kind, shapes and types of one sample.
      num_classes: C; 0 where labels are no classes.

    Raises:
      ValueError: if it cannot be hashed, does not accept the inputs, or its output is
        not as wide as the task wants, or it lacks the layer that is to look ahead.
    """
    try:
        hash(model)
    except TypeError as error:
        raise ValueError(
            f"model is a {type(model).__name__} that cannot be hashed ({error}), but "
            "compiled steps are kept by their model: make its fields numbers, strings, "
            "functions or tuples."
        ) from error

    def outputs():
        example = views.blank(views.build(inputs.kind, config), inputs)
        return model.init_with_output(jax.random.key(0), example, False)

    try:
        output, variables = jax.eval_shape(outputs)
    except programs.MISFITS as error:
        raise ValueError(
            f"model, a {type(model).__name__}, does not work on {inputs.kind} of "
            f"shape {inputs.shapes}, called as module(inputs, train): {error}"
        ) from error
    width = TASKS[config.task].width(num_classes)
    shape = output.shape
    if shape != (1, width):
        raise ValueError(
            f"model, a {type(model).__name__}, returns {list(shape)} for one sample, "
            f"but config.task={config.task!r} needs {width} outputs: make it return "
            f"[B, {width}]."
        )
    looks_ahead = LAYERS[lookahead_layers(config)]
    if looks_ahead is not None:
        looks_ahead(variables["params"])
