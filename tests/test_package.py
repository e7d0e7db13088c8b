"""What holds for the package as a whole: imports, version, README, tracked files."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cmwjax
from cmwjax import defaults
from cmwjax.classifier import Classifier, save_classifier
from cmwjax.models import catalogue as models

ROOT = Path(__file__).parent.parent
HEAVY = {
    *("grain", "matplotlib", "orbax", "pandas", "sklearn"),
    *("tensorflow", "tensorflow_datasets"),
}

# Written so that neither expression matches its own text.
MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(home|opt|root|work|Users)/\w")
CONFLICT = re.compile(r"^(<{7}|>{7})( |$)")  # what a merge left behind
REGISTRY = re.compile(
    r"pypi[.]org|pythonhosted[.]org|--(extra-)?index-url|--find[-]links"
)


@pytest.mark.parametrize(
    "statement", ["import cmwjax", "from cmwjax import meta_step, reweight"]
)
def test_the_core_imports_nothing_heavy(statement):
    code = f"{statement}; import sys; print(*sys.modules, sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    loaded = run.stdout.split()
    assert not {line.split(".")[0] for line in loaded} & HEAVY
    rooms = {line.split(".")[1] for line in loaded if line.startswith("cmwjax.")}
    assert rooms == {"core", "files", "pickled", "randomness"}


def test_every_public_name_loads():
    missing = [name for name in cmwjax.__all__ if not hasattr(cmwjax, name)]
    assert cmwjax.__all__ and not missing


def test_installed_version_is_the_one_in_the_source():
    try:
        installed = importlib.metadata.version("cmwjax")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("cmwjax runs from the checkout without being installed")
    assert installed == cmwjax.__version__


def examples():
    """The Python of the README, in its order."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)


def test_the_classifier_of_the_readme_predicts(tmp_path, monkeypatch):
    example, *_ = examples()
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "quickstart" / "cmw_net" / "seed_0"
    folder.mkdir(parents=True)
    options = {"hidden": (4,)}
    module = models.build("mlp", num_classes=3, **options)
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    written = Classifier(
        module=module,
        variables=module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), False),
        task="classification",
        classes=np.array(["a", "b", "c"]),
        kind="images",
        shape=(8, 8, 1),
        statistics=(np.zeros(1), np.ones(1)),
        model={"name": "mlp", "options": options},
    )
    save_classifier(folder / "classifier.safetensors", written)
    names = {"cmwjax": cmwjax, "images": images}
    exec(example, names)
    logits = module.apply(written.variables, images / np.float32(255), False)
    want = written.classes[np.argmax(logits, axis=1)]
    np.testing.assert_array_equal(names["clf"].predict(images), want)


def test_the_arrays_of_the_readme_train(monkeypatch):
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 80)
    X = (random.normal(size=(80, 2)) + 4 * y[:, None]).astype(np.float32)
    names = {"cmwjax": cmwjax, "X": X, "y": y, "X_new": X + 0.1}
    monkeypatch.setattr(defaults, "EPOCHS", (2, 2))
    _, example, *_ = examples()
    exec(example, names)
    assert names["clf"].predict(X).shape == names["clf"].label_quality_.shape == (80,)
    assert sorted(names["issues"]["row"]) == list(range(80))


def test_the_loops_of_the_readme_run_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    *_, with_trusted, without = examples()
    names = {}
    exec(with_trusted, names)
    assert names["state"].step == 500 and names["metrics"]["skipped"] == 0
    nines = names["digits"] == 9
    logits = names["images"][nines] @ names["state"].params
    assert np.mean(np.argmax(logits, axis=1) == 9) > 0.7  # of which 40 % were called so

    exec(without, names)
    assert names["state"].step == 500 and names["metrics"]["skipped"] == 0
    weights = names["rw"].weights(
        names["state"], names["losses"], names["labels"][names["train"]]
    )
    wrong = names["wrong"][names["train"]]
    assert np.mean(weights[~wrong]) > np.mean(weights[wrong])
    assert (tmp_path / "weighting.safetensors").exists()


def test_the_files_that_the_readme_shows_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", readme)  # no scheme and no anchor: ours
    assert links and [link for link in links if not (ROOT / link).exists()] == []


def test_tracked_files_name_no_machine_and_no_registry():
    found, names = [], _tracked_files()
    for name in names:
        try:
            lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, UnicodeDecodeError):  # deleted, or not text
            continue
        for number, line in enumerate(lines, start=1):
            patterns = (MACHINE_PATH, REGISTRY, CONFLICT)
            if any(pattern.search(line) for pattern in patterns):
                found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert "pyproject.toml" in names and not found


def _tracked_files():
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if listing.returncode or not listing.stdout:
        pytest.skip("not a git checkout")
    return listing.stdout.rstrip("\0").split("\0")
