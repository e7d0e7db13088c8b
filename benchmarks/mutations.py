"""Would the tests notice? Breaks the method on purpose, one place at a time.

    python benchmarks/mutations.py [--only=PART OF A NAME]

Each mutation is a textual change to a temporary copy of the repository, in which the
tests named beside it run. Prints a table of the tests that failed, at most three for
each mutation; the exit status is 1 if a mutation survived. Takes
about half an hour.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]


class Mutation(NamedTuple):
    """One way to be wrong."""

    name: str
    file: str  # in cmwjax/
    old: str  # must occur exactly once
    new: str
    tests: str  # files in tests/ or tests of them, space-separated


MUTATIONS = [
    # Collectives: only a comparison of mappings can tell.
    Mutation(
        "no all_mean on the training loss",
        "core/forward.py",
        "loss = mean(jnp.sum(coefficients * losses) / size)",
        "loss = jnp.sum(coefficients * losses) / size",
        "test_mappings.py",
    ),
    Mutation(
        "no all_mean on the meta loss",
        "core/meta.py",
        "return mean(jnp.mean(losses))",
        "return jnp.mean(losses)",
        "test_mappings.py",
    ),
    Mutation(
        "no all_mean on the gradient",
        "core/forward.py",
        "return loss, mean(gradient)",
        "return loss, gradient",
        "test_mappings.py",
    ),
    Mutation(
        "no all_mean on the meta-gradient",
        "core/meta.py",
        "    meta_gradient = mean(meta_gradient)\n",
        "",
        "test_mappings.py",
    ),
    Mutation(
        "no all_mean on the normaliser",
        "core/forward.py",
        "lax.stop_gradient(mean(jnp.sum(coefficients) / size))",
        "lax.stop_gradient(jnp.sum(coefficients) / size)",
        "test_mappings.py",
    ),
    Mutation(
        "no all_mean on the batch statistics",
        "core/forward.py",
        "lambda x: mean(x) if is_inexact(x) else x, model_state",
        "lambda x: x, model_state",
        "test_mappings.py test_skipped.py",
    ),
    Mutation(
        "no all_mean on the metrics",
        "core/forward.py",
        "metrics=lambda metrics_fn, meta_params: mean(",
        "metrics=lambda metrics_fn, meta_params: (",
        "test_mappings.py",
    ),
    Mutation(
        "the same key on every device",
        "core/meta.py",
        "    if axis_name is not None:\n"
        "        key = jax.random.fold_in(key, lax.axis_index(axis_name))\n",
        "",
        "test_mappings.py",
    ),
    # The virtual step.
    Mutation(
        "virtual step uphill",
        "core/meta.py",
        "optax.sgd(inner_lr(state.step))",
        "optax.sgd(-inner_lr(state.step))",
        "test_meta.py",
    ),
    Mutation(
        "virtual step at the first learning rate",
        "core/meta.py",
        "inner_lr(state.step)",
        "inner_lr(0)",
        "test_meta.py",
    ),
    Mutation(
        "virtual step of a fresh optimizer",
        "core/meta.py",
        "return tx, state.opt_state",
        "return tx, tx.init(state.params)",
        "test_meta.py",
    ),
    Mutation(
        "gradient through the losses that V sees",
        "core/forward.py",
        "weight_fn(meta_params, weighed, batch)",
        "weight_fn(meta_params, losses, batch)",
        "test_meta.py",
    ),
    Mutation(
        "gradient through the normaliser",
        "core/forward.py",
        "lax.stop_gradient(mean(jnp.sum(coefficients) / size))",
        "mean(jnp.sum(coefficients) / size)",
        "test_meta.py",
    ),
    Mutation(
        "normaliser unguarded at zero",
        "core/forward.py",
        "loss / jnp.where(weight > SMALLEST_WEIGHT, weight, 1)",
        "loss / weight",
        "test_meta.py",
    ),
    Mutation(
        "meta loss at w instead of after the virtual step",
        "core/meta.py",
        "ahead = moves(optax.apply_updates(state.params, updates), state.params)",
        "ahead = state.params",
        "test_meta.py",
    ),
    # The lean form.
    Mutation(
        "trusted samples: their gradient is that of one device",
        "core/meta.py",
        "trusted_gradient = mean(trusted_gradient)",
        "trusted_gradient = trusted_gradient",
        "test_trusted_share.py",
    ),
    Mutation(
        "trusted samples: their share comes on top",
        "core/meta.py",
        "(1 - share) * g + share * other",
        "g + share * other",
        "test_trusted_share.py",
    ),
    Mutation(
        "lean: the slope of the meta loss is taken at w",
        "core/meta.py",
        "loss_ahead, (0, 1, 2))(*virtual, zero)",
        "loss_ahead, (0, 1, 2))(*optax.tree.zeros_like(virtual), zero)",
        "test_lean.py",
    ),
    Mutation(
        "lean: the pullback is kept",
        "core/meta.py",
        "forward_at(_after(slopes, state.params))",
        "forward_at(state.params)",
        "test_lean.py",
    ),
    # The real step.
    Mutation(
        "real step with the old weighting net",
        "core/meta.py",
        "forward.loss_and_gradient(proposed.meta_params)",
        "forward.loss_and_gradient(state.meta_params)",
        "test_meta.py",
    ),
    Mutation(
        "batch statistics dropped",
        "core/meta.py",
        "        model_state=forward.model_state,\n        opt_state=opt_state,\n",
        "        opt_state=opt_state,\n",
        "test_meta.py",
    ),
    Mutation(
        "optimizer state dropped",
        "core/meta.py",
        "        opt_state=opt_state,\n    )\n    old",
        "    )\n    old",
        "test_meta.py",
    ),
    Mutation(
        "the same keys at every step",
        "core/meta.py",
        "fold(state.key, Purpose.STEP, state.step)",
        "state.key",
        "test_meta.py",
    ),
    # Skipped updates.
    Mutation(
        "meta loss and meta-gradient may be NaN",
        "core/meta.py",
        "_all_finite((loss, gradient, must_be_finite), old, new)",
        "_all_finite((loss, gradient), old, new)",
        "test_skipped.py",
    ),
    Mutation(
        "gradient may be infinite",
        "core/meta.py",
        "_all_finite((loss, gradient, must_be_finite), old, new)",
        "_all_finite((loss, must_be_finite), old, new)",
        "test_skipped.py",
    ),
    Mutation(
        "parameters may become NaN",
        "core/meta.py",
        "must_be_finite), old, new)",
        'must_be_finite), old, new | {"params": old["params"]})',
        "test_skipped.py",
    ),
    Mutation(
        "statistics may become NaN",
        "core/meta.py",
        "must_be_finite), old, new)",
        'must_be_finite), old, new | {"model_state": old["model_state"]})',
        "test_skipped.py",
    ),
    Mutation(
        "the optimizer's state may become NaN",
        "core/meta.py",
        "must_be_finite), old, new)",
        'must_be_finite), old, new | {"opt_state": old["opt_state"]})',
        "test_skipped.py",
    ),
    Mutation(
        "the weighting net may become NaN",
        "core/meta.py",
        "must_be_finite), old, new)",
        'must_be_finite), old, new | {"meta_params": old["meta_params"]})',
        "test_skipped.py",
    ),
    Mutation(
        "the state of its optimizer may become NaN",
        "core/meta.py",
        "must_be_finite), old, new)",
        'must_be_finite), old, new | {"meta_opt_state": old["meta_opt_state"]})',
        "test_skipped.py",
    ),
    Mutation(
        "infinities of a new state are a reason to skip",
        "core/meta.py",
        "jnp.isfinite(after) | ~jnp.isfinite(before)",
        "jnp.isfinite(after)",
        "test_skipped.py",
    ),
    Mutation(
        "each device decides for itself",
        "core/meta.py",
        "all_mean(good.astype(jnp.float32), axis_name) == 1",
        "good",
        "test_skipped.py",
    ),
    Mutation(
        "counter of skips in a row never starts again",
        "core/meta.py",
        "(state.skipped_in_a_row + 1) * bad",
        "state.skipped_in_a_row + bad",
        "test_skipped.py",
    ),
    # Micro-batches and the choice of optimizers.
    Mutation(
        "the same key for every slice",
        "core/micro_batches.py",
        "slice_key = jax.random.fold_in(key, i)",
        "slice_key = key",
        "test_micro_batches.py",
    ),
    Mutation(
        "slices not recomputed",
        "core/micro_batches.py",
        "jax.checkpoint(loss_fn)(params",
        "loss_fn(params",
        "test_micro_batches.py",
    ),
    Mutation(
        "optimizers not tried at zero gradients",
        "core/lookahead.py",
        "structure.unflatten(dead)",
        "structure.unflatten(leaves)",
        "test_lookahead.py",
    ),
    Mutation(
        "optimizers tried for one step only",
        "core/lookahead.py",
        "COUNTS = 6",
        "COUNTS = 1",
        "test_lookahead.py",
    ),
    Mutation(
        "optimizers tried on a stand-in only",
        "core/lookahead.py",
        "for shapes in (stand_in, own) if size",
        "for shapes in (stand_in,) if size",
        "test_lookahead.py",
    ),
    Mutation(
        "optimizers tried on a stand-in that is another program",
        "core/lookahead.py",
        "if again.primitives == traced.primitives:",
        "if again.primitives:",
        "test_lookahead.py",
    ),
    Mutation(
        "whole arrays without a gradient not tried",
        "core/lookahead.py",
        "for dead in (units, *halves)",
        "for dead in (units,)",
        "test_lookahead.py",
    ),
    Mutation(
        "accumulation over many steps may look ahead",
        "core/lookahead.py",
        "if WAITING & set(",
        "if set() & set(",
        "test_lookahead.py",
    ),
    Mutation(
        "what moves at times may look ahead",
        "core/lookahead.py",
        're.search("x-+x", moves)',
        're.search("never", moves)',
        "test_lookahead.py",
    ),
    Mutation(
        "uphill is as good as downhill",
        "core/lookahead.py",
        ".real > 0.1 * lengths",
        ".real > 2 * lengths",
        "test_lookahead.py",
    ),
    Mutation(
        "an eps_root for those that have none",
        "core/lookahead.py",
        "if names & NOT_CURED or not names & CURED_BY_EPS_ROOT:",
        "if False:",
        "test_lookahead.py",
    ),
    Mutation(
        "optimizers tried within the traces around them",
        "core/lookahead.py",
        "executor.submit(judge).result()",
        "judge()",
        "test_lookahead.py",
    ),
    Mutation(
        "flags against infinities stop the trial",
        "core/lookahead.py",
        "jax.debug_infs(False)",
        "jax.debug_infs(True)",
        "test_lookahead.py",
    ),
    Mutation(
        "searches see the loss of one device",
        "core/forward.py",
        "loss_fn(mean(params), model_state",
        "loss_fn(params, model_state",
        "test_extra_args.py::test_the_loss_its_gradient_and_both_elsewhere",
    ),
    Mutation(
        "a step by the loss: its slope is forgotten",
        "core/meta.py",
        "virtual_state, state.params, value=loss,",
        "virtual_state, state.params, value=lax.stop_gradient(loss),",
        "test_extra_args.py",
    ),
    Mutation(
        "reweight names a remedy that it does not have",
        "core/reweighting.py",
        "except UnfitLookahead as error:",
        "except KeyError as error:",
        "test_reweighting.py",
    ),
    # Random streams.
    Mutation(
        "random streams: noise is drawn as the first epoch is ordered",
        "bias/noise.py",
        "generator(seed, Purpose.NOISE)",
        "generator(seed, Purpose.ORDER)",
        "test_randomness.py",
    ),
    Mutation(
        "random streams: what one is for is forgotten",
        "randomness.py",
        "spawn_key=key",
        "spawn_key=key[1:]",
        "test_randomness.py",
    ),
    Mutation(
        "random streams: a seed may end with zeros that do not count",
        "randomness.py",
        "np.size(seed), moment, part)",
        "moment, part)",
        "test_randomness.py",
    ),
    Mutation(
        "random streams: keys of steps and of epochs meet",
        "randomness.py",
        "for number in (purpose, *numbers):",
        "for number in numbers:",
        "test_randomness.py",
    ),
    Mutation(
        "random streams: a run goes on with other draws",
        "training/workdir.py",
        "if draws != DRAWS:",
        "if False:",
        "test_randomness.py test_config.py",
    ),
    # The weighting net, its families and its file.
    Mutation(
        "a weighting net is anchored at no loss in particular",
        "core/weighting.py",
        "jnp.where(both, moved, hidden - nn.relu(offsets))",
        "jnp.where(both, moved, hidden)",
        "test_weighting.py",
    ),
    Mutation(
        "the file of an anchored net does not know where it is anchored",
        "core/weighting.py",
        'bias = ANCHOR - jnp.maximum(shared["bias"], 0) @ kernel',
        'bias = ANCHOR + 0 * jnp.maximum(shared["bias"], 0) @ kernel',
        "test_weighting.py",
    ),
    Mutation(
        "trusted samples count by their number alone",
        "training/run.py",
        "len(trusted) / (len(trusted) + len(problem.train_index))",
        "len(trusted) / len(problem.train_index)",
        "test_trusted_share.py",
    ),
    Mutation(
        "gate takes the opposite head",
        "core/weighting.py",
        "return _chosen(nn.sigmoid(logits), family)",
        "return _chosen(nn.sigmoid(logits)[:, ::-1], family)",
        "test_weighting.py test_weighting_file.py",
    ),
    Mutation(
        "families in descending order",
        "core/families.py",
        "family = family_of_size[which]",
        "family = (num_families - 1 - family_of_size)[which]",
        "test_weighting.py test_reweighting.py",
    ),
    Mutation(
        "k-means forgets how many classes have a size",
        "core/families.py",
        "= _optimal_borders(sizes, multiplicity, num_families)",
        "= _optimal_borders(sizes, np.ones(len(sizes)), num_families)",
        "test_weighting.py",
    ),
    Mutation(
        "biases start at twice PyTorch's range",
        "core/initializers.py",
        "bound = fan_in**-0.5",
        "bound = 2 * fan_in**-0.5",
        "test_weighting.py",
    ),
    Mutation(
        "two of the authors' heads swapped",
        "core/weighting_file.py",
        "small_moderate_large = (1, 2, 0)",
        "small_moderate_large = (2, 1, 0)",
        "test_weighting_file.py",
    ),
    Mutation(
        "centres rounded in the file",
        "core/weighting_file.py",
        "list(map(float, centres))",
        "list(map(round, centres))",
        "test_weighting_file.py",
    ),
    # Soft labels.
    Mutation(
        "soft labels: both labels get the same weight",
        "methods/soft_labels.py",
        "return jnp.stack([v, 1 - v], axis=1)",
        "return jnp.stack([v, v], axis=1)",
        "test_soft_labels.py",
    ),
    Mutation(
        "soft labels: the net sees the loss against the soft label",
        "methods/soft_labels.py",
        "v = weight_fn(meta_params, losses[:, 0], batch)",
        "v = weight_fn(meta_params, losses[:, 1], batch)",
        "test_soft_labels.py",
    ),
    Mutation(
        "soft labels: the newest prediction weighs most",
        "methods/soft_labels.py",
        "new = momentum * old + (1 - momentum) * probabilities",
        "new = (1 - momentum) * old + momentum * probabilities",
        "test_soft_labels.py",
    ),
    Mutation(
        "soft labels: what is left for other classes is forgotten",
        "methods/probability_store.py",
        "each = kept.rest.astype(jnp.float32) / others",
        "each = 0 * kept.rest.astype(jnp.float32) / others",
        "test_probability_store.py",
    ),
    Mutation(
        "soft labels: rounding makes more than one of a distribution",
        "methods/probability_store.py",
        "shares.at[..., 0].add(jnp.minimum(rest, 0))",
        "shares.at[..., 0].add(0)",
        "test_probability_store.py",
    ),
    Mutation(
        "MixUp: the second weight is not permuted",
        "methods/mixup.py",
        'v2 = v1[batch["partner"]]',
        "v2 = v1",
        "test_soft_labels.py test_mixup.py",
    ),
    Mutation(
        "MixUp: the partner's weights see the sample's family",
        "methods/mixup.py",
        "v2 = weight_fn(meta_params, second, partners_batch(batch))",
        "v2 = weight_fn(meta_params, second, batch)",
        "test_soft_labels.py",
    ),
    Mutation(
        "MixUp: the meta batch is as good as unmixed",
        "methods/mixup.py",
        'return batch["lam"] * own + (1 - batch["lam"]) * other',
        "return own",
        "test_soft_labels.py",
    ),
    Mutation(
        "soft labels: each device remembers its own samples",
        "methods/memory.py",
        "    if axis_name is not None:\n",
        "    if False:\n",
        "test_soft_labels.py",
    ),
    # The seams of the trainer: inputs, tasks, methods, runs.
    Mutation(
        "a sample has the family of the first",
        "data/table.py",
        "table.family[index]",
        "table.family[0 * index]",
        "test_evaluate.py",
    ),
    Mutation(
        "class 0 is looked for instead of class 1",
        "tasks/classification.py",
        "logits[:, 1] - logits[:, 0]",
        "logits[:, 0] - logits[:, 1]",
        "test_evaluate.py",
    ),
    Mutation(
        "options of losses are not passed on",
        "methods/catalogue.py",
        "LOSSES[name].build(**config.baseline.get(name, {}))",
        "LOSSES[name].build()",
        "test_baselines.py",
    ),
    Mutation(
        "the teacher follows where it should stay",
        "methods/teacher.py",
        "step_size=1 - decay",
        "step_size=decay",
        "test_ema.py",
    ),
    Mutation(
        "an epoch begins again after a stop at its first step",
        "train.py",
        "if progress.step > epoch * run.steps_per_epoch:",
        "if progress.step > epoch * run.steps_per_epoch + 1:",
        "test_resume.py",
    ),
    Mutation(
        "temporaries of another suffix are left behind",
        "files.py",
        'r"\\..+\\.[\\w-]+\\.tmp"',
        'r"\\..+\\.json\\.[\\w-]+\\.tmp"',
        "test_resume.py",
    ),
    # Tables, texts and regression.
    Mutation(
        "inputs: a mask of tokens is a number where there is no sample",
        "data/table.py",
        "jnp.zeros((), x.dtype)",
        "jnp.zeros(())",
        "test_view.py",
    ),
    Mutation(
        "inputs: a column that differs by next to nothing is divided by it",
        "data/view.py",
        "constant | (std < least)",
        "constant",
        "test_view.py",
    ),
    Mutation(
        "inputs: rows become float32 before they are standardised",
        "data/view.py",
        "np.asarray(raw, np.float64) - mean",
        "np.asarray(raw, np.float32) - mean",
        "test_view.py",
    ),
    Mutation(
        "inputs: what is trusted is trained on where it stands in both files",
        "bias/trusted.py",
        "np.setdiff1d(index, repeats).astype(np.int32)",
        "index.astype(np.int32)",
        "test_problem.py",
    ),
    Mutation(
        "inputs: files of one size are the same",
        "data/encoded.py",
        "same[i] = content_of(position) in contents[size]",
        "same[i] = True",
        "test_own_data.py",
    ),
    Mutation(
        "identity: who repeats a trusted sample is in no file",
        "report/set_aside.py",
        "REPEATED: problem.repeats,",
        "REPEATED: problem.repeats[:0],",
        "test_identity.py",
    ),
    Mutation(
        "inputs: one class may be written in two ways",
        "data/csv_labels.py",
        "if other != label:",
        "if False:",
        "test_csv_files.py",
    ),
    Mutation(
        "inputs: labels observed are those of the truth",
        "data/csv_sets.py",
        "observed_labels=given if",
        "observed_labels=np.concatenate([right[part] for part in parts]) if",
        "test_csv_sets.py",
    ),
    Mutation(
        "inputs: texts to test with give words",
        "data/csv_sets.py",
        '[*inputs["train"], *inputs.get',
        '[*inputs["train"], *inputs["test"], *inputs.get',
        "test_csv_sets.py",
    ),
    Mutation(
        "inputs: a class of one sample is left to the split",
        "data/csv_sets.py",
        "if count == 1]",
        "if count == 0]",
        "test_csv_sets.py",
    ),
    Mutation(
        "inputs: a first row with a class of this name is a header",
        "data/csv_files.py",
        "in LABEL_NAMES and name not in below:",
        "in LABEL_NAMES:",
        "test_csv_files.py",
    ),
    Mutation(
        "inputs: another delimiter is not noticed",
        "data/csv_files.py",
        "    _check_delimiter(path, rows)\n",
        "",
        "test_csv_files.py",
    ),
    Mutation(
        "inputs: one class is enough",
        "data/dataset.py",
        "if dataset.num_classes == 1:",
        "if dataset.num_classes == -1:",
        "test_csv_sets.py",
    ),
    Mutation(
        "inputs: a comparison checks none of its runs",
        "compare.py",
        "check_run(single, problems[read])",
        "del single",
        "test_tasks.py::test_a_comparison_is_refused_if_any_of_its_runs_is_unfit",
    ),
    Mutation(
        "regression: targets are kept in the precision of training",
        "data/dataset.py",
        "if dataset.num_classes else np.float64",
        "if dataset.num_classes else np.float32",
        "test_regression.py::test_units_and_ranges_are_those_of_observed_targets",
    ),
    Mutation(
        "regression: units are those of the truth",
        "data/dataset.py",
        "units=(float(observed.mean()), float(observed.std()))",
        "units=(dataset.train_labels.mean(), dataset.train_labels.std())",
        "test_regression.py::test_units_and_ranges_are_those_of_observed_targets",
    ),
    Mutation(
        "regression: ranges are those of the truth",
        "bias/problem.py",
        "targets.borders(labels, config",
        "targets.borders(true_labels, config",
        "test_regression.py::test_units_and_ranges_are_those_of_observed_targets",
    ),
    Mutation(
        "regression: noise changes the data set",
        "bias/problem.py",
        "return observed.copy(), every",
        "return observed, every",
        "test_regression.py::test_observed_targets_are_a_copy_and_everyone_has_one",
    ),
    Mutation(
        "regression: a border belongs to the range below",
        "bias/problem.py",
        'np.searchsorted(borders, labels, side="right")',
        'np.searchsorted(borders, labels, side="left")',
        "test_regression.py::"
        "test_ranges_begin_where_a_walk_through_the_sorted_targets_says",
    ),
    Mutation(
        "regression: the model sees targets as the data have them",
        "training/sets.py",
        "dataset.standardised(labels)",
        "labels.astype(np.float32)",
        "test_regression.py::test_targets_and_metrics_are_in_the_units_of_the_data",
    ),
    Mutation(
        "regression: targets that are all equal pass",
        "core/labels.py",
        "np.ptp(targets) < np.finfo(np.float32).tiny",
        "np.ptp(targets) < 0",
        "test_regression.py",
    ),
    Mutation(
        "regression: a target that nobody knows is -1",
        "report/samples.py",
        'unknown = "nan" if name == "true_label" else str(UNKNOWN)',
        "unknown = str(UNKNOWN)",
        "test_audit.py",
    ),
    Mutation(
        "regression: families have the names of classes",
        "core/families.py",
        "if borders is None or len(borders) != num_families - 1:",
        "if True:",
        "test_families.py",
    ),
    Mutation(
        "regression: the figure has suggested targets for given ones",
        "report/plots.py",
        '            samples["given_label"][group.chosen],\n',
        '            samples["suggested_label"][group.chosen],\n',
        "test_plots.py::test_targets_are_a_dot_each_by_what_is_known_of_them",
    ),
    Mutation(
        "regression: R² below zero is drawn below the axis",
        "report/comparison_plots.py",
        "bottom = 0 if means.min() >= 0 else",
        "bottom = 0 if True else",
        "test_comparison_plots.py",
    ),
    # Figures and files.
    Mutation(
        "figures: a dollar begins mathematics",
        "report/plot_style.py",
        '"text.parse_math": False',
        '"text.parse_math": True',
        "test_plots.py",
    ),
    Mutation(
        "figures: one text too few is not noticed",
        "report/suspect_plots.py",
        "if missing.size:",
        "if False:",
        "test_plots.py",
    ),
    Mutation(
        "figures: text suspects that are wrong look like the others",
        "report/suspect_plots.py",
        "colour = CORRUPTED if wrong[i] else INK",
        "colour = INK",
        "test_plots.py",
    ),
    Mutation(
        "figures: legends lie on the bars",
        "report/plots.py",
        "panels[0].set_ylim(0, 1.4 *",
        "panels[0].set_ylim(0, 1.05 *",
        "test_plots.py",
    ),
    Mutation(
        "files: noise goes into labels of one's own",
        "../configs/common.py",
        'untouched = is_file(arg["data"]) and not given & {"noise", "rate"}',
        "untouched = False",
        "test_own_files.py",
    ),
    Mutation(
        "files: a run that goes on forgets which images were unreadable",
        "data/unreadable.py",
        "if self._path.exists():",
        "if False:",
        "test_unreadable.py",
    ),
    # Whose row is it.
    Mutation(
        "identity: a part of the data counts its rows anew",
        "data/dataset.py",
        "rows=dataset.row_numbers[first]",
        "rows=None",
        "test_identity.py::test_a_part_of_the_digits",
    ),
    Mutation(
        "identity: rows are counted after the split of a file",
        "data/csv_sets.py",
        '"test": _take(right, np.sort(test))}, rows',
        '"test": _take(right, np.sort(test))}, np.arange(len(rows))',
        "test_identity.py",
    ),
    Mutation(
        "identity: a part of a folder has the names of all of it",
        "data/encoded.py",
        "tuple(names[i] for i in positions)",
        "names",
        "test_identity.py::test_files_of_a_folder",
    ),
    Mutation(
        "identity: a key of TFDS counts from the first shard",
        "data/records.py",
        "{position - begin}",
        "{position}",
        "test_encoded.py",
    ),
    Mutation(
        "identity: images drawn are found by their place",
        "report/suspect_plots.py",
        "return order[np.searchsorted(known, wanted, sorter=order)]",
        "return wanted",
        "test_plots.py",
    ),
    # Explicit meshes, and what is refused at the door.
    Mutation(
        "families are looked up by index",
        "core/reweighting.py",
        "jnp.max(jnp.where(its_class, families.family[None], -1), axis=1)",
        'jnp.asarray(families.family)[batch["label"]]',
        "test_meshes.py",
    ),
    Mutation(
        "a step does not enter the mesh of its arrays",
        "core/meshes.py",
        "        with _mesh_of((args, kwargs)):",
        "        with nullcontext():",
        "test_meshes.py",
    ),
    Mutation(
        "a label of -1 is the last class",
        "core/reweighting.py",
        "is_class = (label >= 0) & (label < num_classes)",
        "is_class = label < num_classes",
        "test_reweighting.py",
    ),
    Mutation(
        "known labels are not looked at",
        "core/reweighting.py",
        'check_labels(label, num_classes, name=field, remedy="correct it")',
        "check_label_type(np.asarray(label), name=field)",
        "test_reweighting.py",
    ),
    Mutation(
        "an empty batch is a batch",
        "core/forward.py",
        "    if not losses.size:",
        "    if False:",
        "test_reweighting.py",
    ),
    Mutation(
        "a family of -1 is the last",
        "core/weighting.py",
        "return jnp.where(family < 0, jnp.nan, chosen)",
        "return jnp.where(False, jnp.nan, chosen)",
        "test_weighting_file.py",
    ),
    Mutation(
        "a weighting file need not be finite",
        "core/weighting_file.py",
        "if not np.all(np.isfinite(value)):",
        "if False:",
        "test_weighting_file.py",
    ),
    Mutation(
        "a rewritten weighting file is not read anew",
        "training/program.py",
        "hashlib.sha256(file.read_bytes()).hexdigest()",
        '""',
        "test_transfer.py",
    ),
    Mutation(
        "a run goes on with parameters of another type",
        "training/state.py",
        "if (here.shape, here.dtype) != (there.shape, there.dtype):",
        "if here.shape != there.shape:",
        "test_checkpoints.py",
    ),
    Mutation(
        "a step that is not finite is taken",
        "core/meta.py",
        "all_mean(good.astype(jnp.float32), axis_name) == 1",
        "all_mean(good.astype(jnp.float32), axis_name) >= 0",
        "test_fuzz.py",
    ),
    # What a task is, and who asks it.
    Mutation(
        "the task's own loss does not reach its methods",
        "training/program.py",
        "        task_losses=task.losses,\n",
        "",
        "test_ordinal.py",
    ),
    Mutation(
        "every method is for every task",
        "config_check.py",
        "if entry.works_with(offers)]",
        "if entry.works_with(offers) or offers]",
        "test_ordinal.py test_regression.py",
    ),
    Mutation(
        "every run was a classification",
        "report/read.py",
        '.get("task", "classification")',
        '.get("", "classification")',
        "test_ordinal.py",
    ),
    Mutation(
        "classes in the order of the alphabet",
        "data/csv_sets.py",
        "names = tuple(map(str, classes))",
        "names = ()",
        "test_ordinal.py",
    ),
    Mutation(
        "an ordinal prediction is the first class that may be",
        "tasks/ordinal.py",
        "> jnp.log(0.5)",
        "> jnp.log(0.75)",
        "test_ordinal.py",
    ),
    Mutation(
        "trusted alone: batches of the training set",
        "training/run.py",
        "if program.method.trusted_only:",
        "if False:",
        "test_trusted_only.py",
    ),
    Mutation(
        "trusted alone: a sample looks one way in all of an epoch",
        "training/steps.py",
        "period = 1 if method.trusted_only or task.semi else steps_per_epoch",
        "period = steps_per_epoch",
        "test_trusted_only.py",
    ),
    Mutation(
        "RRM: the highest loss that stays goes",
        "methods/rrm.py",
        "~(losses <= highest)",
        "~(losses < highest)",
        "test_rrm.py",
    ),
    Mutation(
        "RRM: lost weight is lost",
        "methods/rrm.py",
        "weights[gains] += loses.sum() / gains.sum()",
        "weights[gains] += 0",
        "test_rrm.py",
    ),
    Mutation(
        "the deviation over seeds is that of a population",
        "report/summary.py",
        "numbers.std(ddof=1)",
        "numbers.std()",
        "test_compare.py::test_the_deviation_is_that_of_a_sample_and_one_value_has_none",
    ),
    # The quality of labels.
    Mutation(
        "quality: all of the classes' sizes are taken back",
        "tasks/classification.py",
        "0.5 * jnp.log(frequencies)",
        "1.0 * jnp.log(frequencies)",
        "test_evaluate.py",
    ),
    Mutation(
        "quality: sizes count as they are, not as they are weighted",
        "training/sets.py",
        "np.bincount(groups, weights, minlength",
        "np.bincount(groups, minlength",
        "test_quality.py",
    ),
    Mutation(
        "quality: a look is not counted",
        "train.py",
        "progress.quality_with(run, scores, others), looks + 1",
        "progress.quality_with(run, scores, others), looks",
        "test_quality.py",
    ),
    # Who validates, and the front for arrays.
    Mutation(
        "set aside: who validates is trained on",
        "bias/problem.py",
        "train_index = np.setdiff1d(train_index, chosen).astype(np.int32)",
        "train_index = train_index.astype(np.int32)",
        "test_set_aside.py",
    ),
    Mutation(
        "set aside: looks at who validates do not count",
        "training/run.py",
        "total[run.problem.validation_index] += validation.quality",
        "total[run.problem.validation_index] += 0 * validation.quality",
        "test_set_aside.py",
    ),
    Mutation(
        "front: a copy of a trusted row is right whatever it says",
        "fitting.py",
        "quality[left_out] = suggested[left_out] == dataset.train_labels[left_out]",
        "quality[left_out] = 1",
        "test_estimator.py",
    ),
    Mutation(
        "front: who was trained on a row judges it out of fold",
        "label_errors.py",
        "judges |= ~judges.any(axis=0)",
        "judges |= True",
        "test_estimator.py",
    ),
    Mutation(
        "front: labels are numbered in the order of their names",
        "data/arrays.py",
        "return classes, numbers.astype(np.int32)",
        "return classes[::-1], numbers.astype(np.int32)",
        "test_estimator.py",
    ),
    # Semi-supervised: what is learned of which view, and how much.
    Mutation(
        "FixMatch learns labels in strong views",
        "methods/fixmatch.py",
        'where(has_label(batch), batch["input"], strong)',
        'where(has_label(batch), strong, batch["input"])',
        "test_semi.py::test_fixmatch_sample_by_sample",
    ),
    Mutation(
        "FixMatch's threshold the wrong way round",
        "methods/fixmatch.py",
        "(jnp.exp(-weak_loss) >= threshold)",
        "(jnp.exp(-weak_loss) < threshold)",
        "test_semi.py::test_fixmatch_sample_by_sample",
    ),
    Mutation(
        "FixMatch's mean over unlabelled samples is over all",
        "methods/fixmatch.py",
        "factor * others / jnp.maximum(jnp.mean(others), TINY)",
        "factor * others",
        "test_semi.py::test_fixmatch_sample_by_sample",
    ),
    Mutation(
        "FixMatch's families are those of the last visit",
        "methods/fixmatch.py",
        '"family": memory["family"][target]',
        '"family": memory["family"][jnp.argmax(store[index], axis=-1)]',
        "test_semi.py::test_fixmatch_sample_by_sample",
    ),
    Mutation(
        "FixMatch's labels count among the weighted",
        "methods/method.py",
        'jnp.where(factor > 0, batch["family"], -1)',
        'batch["family"]',
        "test_semi.py::test_a_net_weights_samples_without_a_label_alone",
    ),
    Mutation(
        "FixMatch's meta set in plain views",
        "training/batches.py",
        'if self._method.meta_view == "strong":',
        'if self._method.meta_view == "never":',
        "test_semi.py::test_views_of_the_meta_set",
    ),
    Mutation(
        "rows of FixMatch lose the virtual shards",
        "data/order.py",
        "first = shard * part * ratio",
        "first = 0",
        "test_unlabelled.py::test_a_row_has_the_ratio_of_both_kinds_in_every_shard",
    ),
    # Selective classification.
    Mutation(
        "sat: the label learns what is not believed",
        "methods/selective.py",
        "return belief * learned + (1 - belief) * _of_abstention(logits)",
        "return (1 - belief) * learned + belief * _of_abstention(logits)",
        "test_selective.py::"
        "test_sat_learns_what_it_believes_of_a_label_and_to_abstain_for_the_rest",
    ),
    Mutation(
        "sat: the newest prediction keeps the momentum",
        "methods/selective.py",
        "new = momentum * old + (1 - momentum) * new",
        "new = (1 - momentum) * old + momentum * new",
        "test_selective.py::"
        "test_beliefs_are_moving_averages_of_the_probability_of_the_label",
    ),
    Mutation(
        "abstention is the first class",
        "methods/selective.py",
        "soft_label[-1] = 1",
        "soft_label[0] = 1",
        "test_selective.py::test_what_a_label_lacks_in_weight_is_learned_of_abstention",
    ),
    Mutation(
        "confidence: the odds against other classes alone",
        "tasks/selective.py",
        "return classification.log_odds(logits, predict(logits))",
        "return classification.log_odds(logits[:, :-1], predict(logits))",
        "test_selective.py::test_confidence_is_the_odds_of_the_class_against_all_else",
    ),
    Mutation(
        "risks: the least sure samples first",
        "tasks/selective.py",
        "np.unique(-np.asarray(confidence",
        "np.unique(np.asarray(confidence",
        "test_selective.py::test_risks_are_those_of_every_order_of_equal_confidences",
    ),
    Mutation(
        "risks: equal confidences in the order of the samples",
        "tasks/selective.py",
        "errors = np.cumsum(shares[np.sort(group)])",
        "errors = np.cumsum(wrong[np.argsort(group, kind='stable')])",
        "test_selective.py::test_risks_are_those_of_every_order_of_equal_confidences",
    ),
    Mutation(
        "E-AURC: of a ranking with all errors at its beginning",
        "tasks/selective.py",
        "np.maximum(covered - right, 0) / covered",
        "np.minimum(covered, size - right) / covered",
        "test_selective.py::"
        "test_excess_of_the_area_is_what_a_perfect_ranking_would_save",
    ),
    Mutation(
        "coverage: rounded down",
        "tasks/selective.py",
        "return math.ceil(round(coverage * size, 6))",
        "return math.floor(coverage * size)",
        "test_selective.py::test_coverages_are_rounded_up_to_a_sample",
    ),
    # Who looks ahead.
    Mutation(
        "lookahead_mask: what is not in it moves",
        "core/meta.py",
        "lambda m, x, other: x if m else other",
        "lambda m, x, other: other if m else x",
        "test_lookahead_mask.py::"
        "test_the_meta_gradient_is_that_of_the_moved_parameters_alone",
    ),
    Mutation(
        "lookahead_mask: of no effect",
        "core/meta.py",
        "lambda m, x, other: x if m else other",
        "lambda m, x, other: x",
        "test_lookahead_mask.py::"
        "test_the_meta_gradient_is_that_of_the_moved_parameters_alone",
    ),
]


def mutated(mutation: Mutation) -> str:
    """The file with the mutation; ValueError if the text to change has moved."""
    text = (ROOT / "cmwjax" / mutation.file).read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(
            f"mutation {mutation.name!r}: its text occurs {text.count(mutation.old)} "
            f"times in {mutation.file}, not once; bring the mutation up to date."
        )
    return text.replace(mutation.old, mutation.new)


def failing_tests(folder: pathlib.Path, tests: str, marked: str) -> list[str]:
    """The first three tests that fail in `folder`, of those `marked` so."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-rf", "--maxfail=3"]
    command += ["-n0", "-p", "no:cacheprovider", "-m", marked]
    command += [f"tests/{name}" for name in tests.split()]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )
    if result.returncode not in (0, 1, 5):  # neither passed, nor failed, nor none
        raise RuntimeError(f"pytest could not run:\n{result.stdout}{result.stderr}")
    return re.findall(r"^FAILED tests/(.*?)(?: - .*)?$", result.stdout, re.MULTILINE)


def main() -> None:
    """Runs all mutations and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of a mutation's name")
    wanted = parser.parse_args().only
    mutations = [m for m in MUTATIONS if wanted in m.name]
    texts = [mutated(m) for m in mutations]  # before anything runs
    survivors = 0
    cache = tempfile.TemporaryDirectory()  # most programs are not what was changed
    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache.name
    for mutation, text in zip(mutations, texts, strict=True):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            for part in ("cmwjax", "configs", "tests", "pyproject.toml"):
                source, copy = ROOT / part, folder / part
                (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
            (folder / "cmwjax" / mutation.file).write_text(text)
            failed = failing_tests(folder, mutation.tests, "not slow")
            failed = failed or failing_tests(folder, mutation.tests, "slow")
        survivors += not failed
        print(f"{mutation.name}: {'caught by' if failed else 'SURVIVED'}")
        print("".join(f"    {test}\n" for test in failed), end="", flush=True)
    print(f"{len(mutations) - survivors} of {len(mutations)} mutations caught.")
    sys.exit(survivors > 0)


if __name__ == "__main__":
    main()
