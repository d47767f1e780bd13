"""Compiled programs, kept from one run to the next."""

# What compiles in less is hardly worth a file.
SHORTEST_COMPILATION_SECONDS = 0.05


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
