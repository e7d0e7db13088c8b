"""The script that breaks the code on purpose finds what it wants to break."""

import pytest

from benchmarks.mutations import MUTATIONS, ROOT, mutated


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_every_mutation_applies(mutation):
    assert mutated(mutation) != (ROOT / "cmwjax" / mutation.file).read_text()
    assert mutation.tests
    for name in mutation.tests.split():
        assert (ROOT / "tests" / name.partition("::")[0]).is_file(), name
