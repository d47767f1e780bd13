"""Compilation: its cache, the memory it leaves behind, and the wait that it means."""

import contextlib
import ctypes
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache

# Programs that compile faster are not stored.
SHORTEST_COMPILATION_SECONDS = 0.05

# JAX's names: of all events of tracing, lowering and compiling, and of the last.
COMPILING = "/jax/core/compile/"
COMPILED = f"{COMPILING}backend_compile_duration"

# How long compiling takes before it is shown, and how often it is shown then.
PATIENCE_SECONDS = 2.0
REFRESH_SECONDS = 0.5


def keep_programs() -> None:
    """Makes JAX store compiled programs in the user's cache folder and reuse them.

    Call it before anything is compiled. A folder that the user has chosen with
    `JAX_COMPILATION_CACHE_DIR` is respected; `JAX_ENABLE_COMPILATION_CACHE=false` turns
    the cache off. If the folder cannot be written, a line on standard error says so,
    and nothing is stored.

    Example:
        >>> import jax
        >>> keep_programs()
        >>> jax.config.values["jax_compilation_cache_dir"] is None
        False
    """
    import jax
    import platformdirs

    if jax.config.values["jax_compilation_cache_dir"] is None:
        folder = platformdirs.user_cache_path("glrnn") / "programs"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update(
            "jax_persistent_cache_min_compile_time_secs", SHORTEST_COMPILATION_SECONDS
        )
    folder = str(jax.config.values["jax_compilation_cache_dir"])
    reason = _unwritable(folder)
    if reason and jax.config.values["jax_enable_compilation_cache"]:
        # JAX would say so in two lines for every program.
        jax.config.update("jax_enable_compilation_cache", False)
        with contextlib.suppress(OSError):
            print(
                f"note: compiled programs are not stored: cannot write {folder}: "
                f"{reason}; JAX_COMPILATION_CACHE_DIR names another folder",
                file=sys.stderr,
            )


def _unwritable(folder: str) -> str:
    """Why a folder cannot be written; empty if it can, or is in the cloud."""
    if not folder or folder.startswith(("gs://", "s3://")):
        return ""
    if "://" in folder:
        return "it is no folder"
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


@cache
def return_memory() -> None:
    """Returns the memory that compiling took to the system as soon as it is free.

    glibc would keep it, a few hundred megabytes on top of the network's own. Without
    glibc this does nothing.

    Example:
        >>> return_memory()
    """
    import jax

    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "malloc_trim"):
        return

    def compiled(event: str, duration_secs: float, **rest: str | int) -> None:
        del rest
        if event == COMPILED and duration_secs > SHORTEST_COMPILATION_SECONDS:
            libc.malloc_trim(0)

    jax.monitoring.register_event_duration_secs_listener(compiled)


@contextlib.contextmanager
def compilation_shown(show: Callable[[float], None]) -> Iterator[None]:
    """Shows that JAX is compiling, while it does.

    A thread shows it, since the one that compiles waits for XLA. JAX's monitoring
    events say when tracing, lowering and compiling begin and end.

    Args:
        show: Called with the seconds that compiling has taken, about twice a second
            once that exceeds `PATIENCE_SECONDS`, and with 0 when it is over.
    """
    import jax

    under_way: set[tuple[str, float]] = set()
    ended = threading.Event()

    def begin(event: str, value: float, **rest: str | int) -> None:
        del rest
        if event.startswith(COMPILING):
            under_way.add((event, value))

    def end(event: str, start_time: float, end_time: float, **rest: str | int) -> None:
        del end_time, rest
        under_way.discard((event, start_time))

    def watch() -> None:
        begun, shown = None, False
        while not ended.wait(REFRESH_SECONDS):
            starts = [start for _, start in under_way.copy()]
            if not starts:
                begun = None
            elif begun is None:
                begun = min(starts)
            seconds = 0.0 if begun is None else time.time() - begun
            if shown or seconds > PATIENCE_SECONDS:
                shown = seconds > PATIENCE_SECONDS
                show(seconds if shown else 0.0)

    thread = threading.Thread(target=watch, daemon=True)
    jax.monitoring.register_scalar_listener(begin)
    jax.monitoring.register_event_time_span_listener(end)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        jax.monitoring.unregister_scalar_listener(begin)
        jax.monitoring.unregister_event_time_span_listener(end)
