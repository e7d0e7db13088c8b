"""Pages in results/ are what their scripts write of the lines beside them."""

import json
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from benchmarks import collectives, zoo
from benchmarks import partial as partial_labels

RESULTS = Path(__file__).parent.parent / "results"


def lines_of(name):
    return [json.loads(line) for line in (RESULTS / name).read_text().splitlines()]


def test_the_page_on_partial_labels_is_up_to_date(tmp_path):
    page = tmp_path / "partial.md"
    page.write_text((RESULTS / "partial.md").read_text() + "| old | row |\n")
    partial_labels.main(
        [f"--jsonl={RESULTS / 'partial.jsonl'}", f"--page={page}"],
    )
    assert page.read_text() == (RESULTS / "partial.md").read_text()


def test_a_cell_of_partial_labels_has_means_over_seeds_and_what_is_gained():
    seeds = [
        {"cell": "fashion-0.3", "base": 80, "right": 90, "constant": 81, "cmw_net": 84},
        {"cell": "fashion-0.3", "base": 82, "right": 92, "constant": 81, "cmw_net": 85},
    ]
    cell, *row = partial_labels.table(seeds).splitlines()[-1].strip("| ").split(" | ")
    numbers = [float(x) for x in re.findall(r"[+-]?\d+\.\d+", " ".join(row))]
    spread = round(2**0.5, 2)
    assert cell == "fashion-0.3"
    expected = [81, spread, 91, spread, 81, 0, 84.5, round(0.5**0.5, 2), 3.5, 3.5]
    assert numbers == expected


def test_the_page_of_the_zoo_is_up_to_date():
    page, rows = (RESULTS / "zoo.md").read_text(), lines_of("zoo.jsonl")
    assert zoo.table(rows) in page and zoo.summary(rows) in page


def test_gains_are_those_over_ordinary_training_with_the_same_seed():
    rows = [
        {"target": "digits-sym-0.4", "function": "", "seed": 0, "score": 70.0},
        {"target": "digits-sym-0.4", "function": "", "seed": 1, "score": 80.0},
        {"target": "yoruba", "function": "", "seed": 1, "score": 50.0},
    ]
    for (target, seed), score in {
        ("digits-sym-0.4", 0): 74.0,
        ("digits-sym-0.4", 1): 78.0,
        ("digits-sym-0.4", 2): 99.0,  # nothing to compare it with
        ("yoruba", 1): 49.0,
    }.items():
        name = "fashion_sym_mw"
        rows.append({"target": target, "function": name, "seed": seed, "score": score})
    assert zoo.gains(rows)["fashion_sym_mw", "digits-sym-0.4"] == [4.0, -2.0]
    assert zoo.summary(rows).splitlines()[-1] == (
        "| fashion_sym_mw | 2 | +0.0 | yoruba | -1.0 | -2.0 |"
    )


@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_reductions_of_a_compiled_program_are_counted(how):
    def step(x, y):
        both = jax.lax.psum(x.sum(), "data"), jax.lax.pmean(y.sum(0), "data")
        return *both, jax.lax.all_gather(y[:, 0], "data", tiled=True)

    x, y = jnp.ones((4, 2)), jnp.ones((4, 3, 5))
    if how == "pmap":
        mapped = jax.pmap(step, "data", out_axes=None)
    else:
        mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
        y = y.reshape(12, 5)
        whole = partial(jax.shard_map, mesh=mesh, in_specs=P("data"), out_specs=P())
        mapped = jax.jit(whole(step, check_vma=False))
    found = collectives.counted(mapped.lower(x, y).compile().as_text())
    # A number, five of them, and the first of each of twelve rows.
    assert found["bytes"] == 4 * (1 + 5 + 12) and found["all_gathers"] == 1
    assert 1 <= found["all_reduces"] <= 2  # the compiler may join them


def test_links_leave_the_share_that_a_ring_takes_no_time_for():
    found = collectives.efficiency({"bytes": 450_000_000}, milliseconds=1.0)
    # 8 devices send 7/4 of a millisecond's bytes in each step of one millisecond.
    np.testing.assert_allclose(found["efficiency_8"], 1 / 2.75, atol=5e-4)
    assert found["efficiency_256"] <= found["efficiency_64"] < found["efficiency_8"]
