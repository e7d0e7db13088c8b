"""Strict by default: four CPU devices, and no silent rank promotion.

What was compiled once, in whichever test, is not compiled again: it is kept in a folder
until the tests end, or longer in the one that `JAX_COMPILATION_CACHE_DIR` names. And it
is compiled in a hurry, unless `JAX_DISABLE_MOST_OPTIMIZATIONS=0` is set.
"""

import os
import pathlib
import shutil
import signal
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
OWN_CACHE = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # those of pytest-xdist inherit it
    OWN_CACHE = tempfile.mkdtemp(prefix="cmwjax-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = OWN_CACHE
# Half of the time is compiling. The continuous integration has some once with 0.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax  # noqa: E402  (all of this is read when JAX is imported)
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 4)  # before the first JAX call
jax.config.update("jax_numpy_rank_promotion", "raise")
# A shell that starts the tests in the background has them, and what they start, ignore
# the signal that some are about.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Forgets compiled programs before they fill the table of the memory's mappings.

    Each takes up hundreds of Linux's 65,530 (vm.max_map_count), and who finds none left
    ends by a segmentation fault. To forget them after every file takes minutes.
    """
    yield
    mappings = pathlib.Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


def pytest_unconfigure():
    if OWN_CACHE is not None:
        shutil.rmtree(OWN_CACHE, ignore_errors=True)
