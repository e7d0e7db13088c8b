"""The compiled functions of a run, and the state they carry."""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from ml_collections import ConfigDict, FrozenConfigDict
from numpy.typing import NDArray

from cmwjax.bias.problem import Problem
from cmwjax.core import optimizers
from cmwjax.core.families import Families
from cmwjax.core.meta import MetaState
from cmwjax.core.parallel import Layout, layout
from cmwjax.core.weighting import CMWNet
from cmwjax.core.weighting_file import WeightingFunction, net_for, read_weighting
from cmwjax.data import view as views
from cmwjax.data.on_disk import is_name
from cmwjax.data.sources import Samples
from cmwjax.data.view import Spec, View
from cmwjax.files import expanded
from cmwjax.methods import catalogue
from cmwjax.methods.cmw_net import with_net
from cmwjax.methods.method import Method
from cmwjax.methods.teacher import Teacher
from cmwjax.models import catalogue as models
from cmwjax.models.heads import LAYERS
from cmwjax.models.pretrained import load_weights
from cmwjax.randomness import Purpose, fold
from cmwjax.tasks.catalogue import TASKS
from cmwjax.tasks.task import Task
from cmwjax.training import evaluate, steps
from cmwjax.training.state import RunState, cut_over_devices
from cmwjax.training.steps import Steps, zero_sums

EVALUATION_BATCH = 1000
# What a module raises on inputs that it is not for.
MISFITS = (AttributeError, LookupError, TypeError, ValueError, flax.errors.FlaxError)


class Parts(NamedTuple):
    """What the configuration's names stand for."""

    layout: Layout
    model: nn.Module
    method: Method
    task: Task
    view: View
    schedule: optax.Schedule  # learning rate of the classifier by step
    tx: optax.GradientTransformation
    meta_tx: optax.GradientTransformation
    function: WeightingFunction | None  # applied as it is


@dataclasses.dataclass(frozen=True)
class Program:
    """Compiled functions of a run; the same for all seeds.

    Attributes:
      config: the `shared_part` of a configuration.
      parts: what it names.
      step: compiled steps; the state that goes in is donated.
      several: likewise, of `config.steps_per_call` steps at once.
      curve: weights `[K, G]` of losses `[G]`; None without a weighting net.
    """

    config: FrozenConfigDict
    parts: Parts
    step: Steps
    several: Steps
    curve: Callable[[Any, np.ndarray], Any] | None
    _first_learner: Callable[[int], MetaState]
    _score: Callable[[MetaState, Samples, np.ndarray], evaluate.Scores]
    _predict: Callable[[MetaState, Samples, np.ndarray], np.ndarray]

    @property
    def layout(self) -> Layout:
        """How state and batches lie on the devices."""
        return self.parts.layout

    @property
    def method(self) -> Method:
        """What is minimised, and how it is weighted."""
        return self.parts.method

    @property
    def task(self) -> Task:
        """What outputs mean."""
        return self.parts.task

    @property
    def view(self) -> View:
        """How inputs are prepared."""
        return self.parts.view

    @property
    def schedule(self) -> optax.Schedule:
        """Learning rate of the classifier by step."""
        return self.parts.schedule

    def check_model(self) -> None:
        """Raises `ValueError` if the model does not work on the inputs; is quick."""
        jax.eval_shape(self._first_learner, 0)

    def init(self, seed: int, problem: Problem) -> RunState:
        """The state before the first step, on the devices.

        Raises:
          ValueError: if the model does not work on these images, or the file that it
            starts from is unfit.
        """
        learner, method = self._first_learner(seed), self.method
        if self.config.model.weights:
            first = {"params": learner.params, **learner.model_state}
            first = load_weights(self.config.model.weights, like=first)
            learner = learner._replace(params=first.pop("params"), model_state=first)
        state = RunState(learner, zero_sums(method))
        if method.teacher is not None:
            teacher = Teacher(learner.params, learner.model_state)
            state = state._replace(teacher=teacher)
        if method.memory is not None:
            state = state._replace(memory=method.memory.init(problem))
        return self.place(state)

    def place(self, state: RunState) -> RunState:
        """A state on the host, equal on all processes -> on the devices."""
        return self.layout.place(state, cut_over_devices(self.method))

    def whole(self, state: RunState) -> RunState:
        """The state with what devices have parts of together again, on the host."""
        return self.layout.gathered(state, cut_over_devices(self.method))

    def _memory(self, state: RunState) -> Any:
        """What is remembered, on the host."""
        return jax.device_get(self.whole(state).memory)

    def reset_sums(self, state: RunState) -> RunState:
        """The state with the sums of an epoch that has not begun."""
        return state._replace(sums=self.layout.replicate(zero_sums(self.method)))

    def refresh(
        self, state: RunState, samples: Samples, problem: Problem, epoch: int
    ) -> RunState:
        """Before an epoch, lets the method's memory look at what is predicted now.

        Args:
          state: the state.
          samples: the training set.
          problem: what the run learns from.
          epoch: number of the epoch after the warm-up, whose own are negative.
        """
        memory = self.method.memory
        if memory is None or memory.refresh is None:
            return state

        def predict():
            return self.predict(state, samples, problem.train_index)

        new = memory.refresh(self._memory(state), problem, epoch, predict)
        return state._replace(memory=self.layout.place(new, memory.split))

    def remembered(self, state: RunState, samples: Samples) -> Samples:
        """The training set as it is scored, with what the method remembers of it."""
        memory = self.method.memory
        if memory is None or memory.scored is None:
            return samples
        return samples._replace(table=memory.scored(state.memory, samples.table))

    def labels(self, state: RunState, problem: Problem) -> NDArray[Any]:
        """Labels `[N]`: as observed, unless the method has others in their place."""
        memory = self.method.memory
        if memory is None or memory.labels is None:
            return problem.labels
        every = np.arange(len(problem.labels))
        return memory.labels(self._memory(state), every)

    def families(self, state: RunState, problem: Problem) -> Families:
        """Those of the classes now: of the problem, unless the method renews them."""
        memory = self.method.memory
        if memory is None or memory.families is None:
            return problem.families
        return memory.families(self._memory(state))

    def weights(self, state: RunState, index: NDArray) -> NDArray[Any] | None:
        """Weights `[n]` that the method remembers of samples; None: it does not."""
        memory = self.method.memory
        if memory is None or memory.weigh is None:
            return None
        return memory.weigh(self._memory(state), index)

    def evaluated(self, state: RunState) -> RunState:
        """The state whose classifier is evaluated: the teacher's, if there is one.

        A teacher that is frozen part-way only teaches, and the classifier is evaluated.
        """
        teacher = self.method.teacher
        if teacher is not None and teacher.freezes:
            return state.without_teacher
        return state

    def score(
        self, state: RunState, samples: Samples, index: np.ndarray
    ) -> evaluate.Scores:
        """Scores of samples by the state's teacher, if there is one."""
        return self._score(state.scoring, samples, index)

    def predict(
        self, state: RunState, samples: Samples, index: np.ndarray
    ) -> np.ndarray:
        """Probabilities `[N, C]` by the state's teacher, if there is one."""
        return self._predict(state.scoring, samples, index)


# What `jax.pmap` compiled is kept for ever, with the function that it was made of: some
# 200 to 1,000 mappings of memory for each program built here, of which a process has
# 65,530 on Linux (vm.max_map_count) before it ends by a segmentation fault.
FORGET_EVERY = 50
_builds = itertools.count(1)


@functools.lru_cache(maxsize=8)
def build(
    config: FrozenConfigDict,
    *,
    inputs: Spec,
    num_classes: int,
    num_groups: int,
    num_families: int,
    steps_per_epoch: int,
    trusted_share: float = 0.0,
    devices: tuple[jax.Device, ...] | None = None,
    model: nn.Module | None = None,
) -> Program:
    """Builds model, method, optimizers and steps; compiles them when first called.

    Args:
      config: the `shared_part` of a checked configuration.
      inputs: kind, shapes and types of one sample.
      num_classes: C; 0 where labels are no classes.
      num_groups: groups of samples that the families are made of.
      num_families: families there are, at most those that the configuration wants.
      steps_per_epoch: number of steps in an epoch.
      trusted_share: of trusted samples in what the classifier learns at a meta step.
      devices: what to run on, by default everything there is.
      model: the classifier, `module(inputs, train)`, in place of that of the
        configuration.

    Raises:
      ValueError: if devices do not divide the virtual shards, the model is unknown, or
        what is to be remembered is not for so many classes.
    """
    if next(_builds) % FORGET_EVERY == 0:
        jax.clear_caches()  # what is still in use is compiled once more
    spread = layout(config.parallel, devices)
    shards, num_devices = config.data.shards, len(spread.devices)
    if shards % num_devices:
        raise ValueError(
            f"config.data.shards={shards} is not a multiple of the {num_devices} "
            "devices; choose one, since a device owns whole shards."
        )
    parts = _parts(
        config,
        spread,
        model,
        inputs,
        num_classes=num_classes,
        num_groups=num_groups,
        num_families=num_families,
        steps_per_epoch=steps_per_epoch,
    )
    method, task, view = parts.method, parts.task, parts.view
    batch_size = evaluation_batch(config)
    step = steps.build(
        config,
        model=parts.model,
        method=method,
        task=task,
        view=view,
        tx=parts.tx,
        meta_tx=parts.meta_tx,
        schedule=parts.schedule,
        axis_name=spread.axis_name,
        steps_per_epoch=steps_per_epoch,
        trusted_share=trusted_share if method.net is not None else 0.0,
    )
    several = steps.several(step, meta_every=config.meta_every)
    cut = cut_over_devices(method)
    return Program(
        config=config,
        parts=parts,
        step=_compiled(step, spread, cut),
        several=_compiled(several, spread, cut, stacked=True),
        curve=None if method.net is None else jax.jit(method.net.curves),
        _first_learner=_first_learner(config, parts, inputs),
        _score=evaluate.scorer(
            parts.model, method, task, view, spread, batch_size=batch_size
        ),
        _predict=evaluate.predictor(parts.model, view, spread, batch_size=batch_size),
    )


def shared_part(config: ConfigDict) -> FrozenConfigDict:
    """What compiled functions depend on: the same for every seed."""
    shared = config.to_dict()
    for name in ("seed", "compare", "checkpoint", "max_skips_in_a_row"):
        del shared[name]
    # Not the name of a file alone: another may have taken its place since.
    file = config.weighting.load and expanded(config.weighting.load)
    if file and file.is_file():
        shared["weighting_file"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return FrozenConfigDict(_without_lists(shared))


def _without_lists(value: Any) -> Any:
    """With tuples in their place: FrozenConfigDict fails at two empty ones."""
    if isinstance(value, dict):
        return {name: _without_lists(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(_without_lists, value))
    return value


def evaluation_batch(config) -> int:
    """Samples that are evaluated at once."""
    if is_name(config.data.name) and not config.data.embed:
        return config.data.stream.evaluation_batch
    return EVALUATION_BATCH


def _parts(
    config,
    spread: Layout,
    model: nn.Module | None,
    inputs: Spec,
    *,
    num_classes: int,
    num_groups: int,
    num_families: int,
    steps_per_epoch: int,
) -> Parts:
    task, view = TASKS[config.task], views.build(inputs.kind, config)
    method = catalogue.build(
        config,
        num_families=num_families,
        num_classes=num_groups,
        task_losses=task.losses,
    )
    if (method.mixes or method.mixes_meta) and not view.blends:
        raise ValueError(
            f"config.method={config.method!r} blends inputs (MixUp), and "
            f"{inputs.kind} cannot be blended: set config.mixup.alpha and "
            "config.mixup.meta_alpha to 0, or choose another method."
        )
    if method.two_views and view.strong is None:
        raise ValueError(
            f"config.loss={config.loss!r} learns strong views, and {inputs.kind} have "
            "none: give images or rows, such as embeddings (config.data.embed), or "
            "choose another loss."
        )
    if method.memory is not None and method.memory.check is not None:
        method.memory.check(num_classes)
    function = None
    if config.weighting.load and method.net is not None:
        function = weighting_function(config)
        method = _applied(config, method, method.net, function)
    if model is None:
        model = models.build(
            config.model.name,
            num_classes=task.width(num_classes),
            axis_name=spread.axis_name if config.synchronise_batch_norm else None,
            vocabulary_size=inputs.vocabulary_size,
            **config.model.options,
        )
    optim = dict(config.optim)
    del optim["accumulate"]  # a matter of the steps
    schedule = optimizers.learning_rate(
        optim.pop("learning_rate"),
        total_steps=config.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        **optim.pop("schedule"),
    )
    trained = LAYERS[optim.pop("layers")]
    tx = optimizers.build(learning_rate=schedule, **optim)
    if trained is not None:
        tx = optimizers.of_part(tx, trained)
    meta_tx = method.meta_tx or optimizers.build(**config.weighting.optimizer)
    return Parts(spread, model, method, task, view, schedule, tx, meta_tx, function)


def _applied(
    config, method: Method, net: CMWNet, function: WeightingFunction
) -> Method:
    """The method with a function in the place of its net, which stays as it is."""
    net = net_for(config.weighting.load, function, net.num_families)
    normalisation = config.weighting.normalisation
    if function.normalisation != normalisation and not method.soft_labels:
        logging.warning(
            "%s was learned with weighting.normalisation=%r and is applied with %r, "
            "which scales the loss, and so the learning rate, differently.",
            config.weighting.load,
            function.normalisation,
            normalisation,
        )
    return with_net(method, net)._replace(frozen=True)


def weighting_function(config: Any) -> WeightingFunction:
    """What `config.weighting.load` names.

    Raises:
      ValueError: if there is no such file or name, it is not a weighting function, or
        was learned on another loss.
    """
    try:
        function = read_weighting(config.weighting.load)
    except FileNotFoundError as error:
        raise ValueError(f"config.weighting.load: {error} Correct the path.") from error
    except ValueError as error:
        raise ValueError(f"config.weighting.load: {error}") from error
    if function.loss != config.loss:
        raise ValueError(
            f"{config.weighting.load} weights by {function.loss}, and config.loss is "
            f"{config.loss!r}: set config.loss={function.loss!r}."
        )
    logging.info(
        "weights come from %s, learned on %s",
        config.weighting.load,
        function.provenance,
    )
    return function


def _first_learner(config, parts: Parts, inputs: Spec) -> Callable[[int], MetaState]:
    """Compiles `(seed) -> learner`, on the default device."""
    method, example = parts.method, views.blank(parts.view, inputs)

    @jax.jit  # op by op, this would take longer than a short run
    def first(seed):
        key = jax.random.PRNGKey(seed)
        classifier_key = fold(key, Purpose.CLASSIFIER)
        variables = parts.model.init(classifier_key, example, False)
        params = variables.pop("params")
        meta_params, one = {}, jnp.zeros((1,))
        if parts.function is not None:
            meta_params = {"params": jax.tree.map(jnp.asarray, parts.function.params)}
        elif method.net is not None:
            net_key = fold(key, Purpose.WEIGHTING_NET)
            meta_params = method.net.init(net_key, one, one.astype(int))
        elif method.meta_tx is not None:
            meta_params = jnp.zeros(config.data.batch_size)
        return MetaState.create(
            params=params,
            meta_params=meta_params,
            tx=parts.tx,
            meta_tx=None if method.frozen else parts.meta_tx,
            model_state=variables,
            key=key,
        )

    def first_or_error(seed):
        try:
            return first(seed)
        except MISFITS as error:
            raise ValueError(
                f"config.model.name={config.model.name!r} with options "
                f"{config.model.options.to_dict()} does not work on "
                f"{inputs.kind} of "
                f"shape {inputs.shapes}: correct config.model.options, or choose "
                f"another model. {error}"
            ) from error

    return first_or_error


def _compiled(
    step: Steps, spread: Layout, cut: RunState, *, stacked: bool = False
) -> Steps:
    def compiled(function, num_batches):
        return spread.map(
            function, num_tables=1, num_batches=num_batches, stacked=stacked, cut=cut
        )

    return Steps(
        compiled(step.warmup, 1), compiled(step.weighted, 1), compiled(step.meta, 2)
    )
