"""JAX as strict as it goes, for tests and doctests alike, and the corpora.

Strict dtype promotion is left to the tests of our own functions, which ask for it with
`jax.numpy_dtype_promotion("strict")`: under it optax's adam, MultiSteps and cosine
schedule raise.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling takes most of the time: the tests, the processes that they start and the
# next run share a folder of compiled programs, which `pytest --cache-clear` empties.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "true")
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
    Path(__file__).resolve().parents[1] / ".pytest_cache" / "d" / "programs"
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
# Texts that are encoded are kept for this run of the tests alone.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="glrnn-cache-")
# Machine code is made without what takes LLVM longest. XLA's own passes, fusions and
# layouts are those of users; `XLA_FLAGS= python -m pytest` has theirs in all.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)

import jax
import pytest
from small_run import write_texts

jax.config.update("jax_numpy_rank_promotion", "raise")

# Files with tests that take long, which come first, or one worker would end alone.
LONG = ("stress_test", "gpu_benchmark_test", "live_parity_test", "experiments_test")


def pytest_unconfigure():
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONG)


CORPORA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder that holds `ptb/` and `wikitext-2/`, beside the checkout."""
    if not CORPORA.is_dir():
        pytest.skip("the corpora are not at hand")
    return CORPORA


@pytest.fixture
def unread():
    """The end of a pipe to write into, whose other end is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.fixture
def compiled():
    """The names of the functions that XLA compiles during a test, as they come."""
    names = []

    def listen(event, seconds, fun_name="", **_):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def texts(tmp_path) -> Path:
    """A folder with `train.txt`, `valid.txt`, `test.txt`, and `small.py` for them."""
    folder = tmp_path / "texts"
    folder.mkdir()
    write_texts(folder)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> tuple[Path, Path, str]:
    """A run, the folder of its texts, and what was printed while it trained."""
    folder = tmp_path_factory.mktemp("trained")
    write_texts(folder)
    arguments = ["--data", str(folder), "--workdir", str(folder / "run")]
    output = subprocess.run(
        [sys.executable, "-m", "glrnn.train", str(folder / "small.py"), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert output.stderr == ""
    return folder / "run", folder, output.stdout
