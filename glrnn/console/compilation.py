"""Compiled programs, kept between runs, and the memory that compiling leaves behind."""

import ctypes
import sys
from functools import cache

# What compiles in less is hardly worth a file.
SHORTEST_COMPILATION_SECONDS = 0.05

# JAX's name for the event.
COMPILED = "/jax/core/compile/backend_compile_duration"


def keep_programs() -> None:
    """Has JAX keep what it compiles in the user's cache folder, and look there first.

    To be called before anything is compiled. A folder that the user has chosen stands
    (`JAX_COMPILATION_CACHE_DIR`); `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing.

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


@cache
def return_memory() -> None:
    """Has memory that compiling took given back to the system as soon as it is free.

    glibc would keep it, a few hundred megabytes beside the network's own. Elsewhere
    nothing is done.

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
