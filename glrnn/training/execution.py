"""How a run is executed, which changes nothing of what is learned."""

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import NamedTuple

from jax.sharding import Mesh

from glrnn.config import Config
from glrnn.ground import devices, processes
from glrnn.ground.devices import PRECISIONS
from glrnn.ground.validation import at_least, check, choice, to_json
from glrnn.storage.numerics import numerics

# What to do about a loss or gradient that is not finite: stop the run; skip that
# update, as long as there are not too many in a row; or rewind to the newest checkpoint
# and train on from there with other dropout masks.
ON_NONFINITE = ("stop", "skip", "rewind")
# The packages of which processes that train one run have the same version.
VERSIONS = "glrnn", "jax", "jaxlib"


@dataclass(frozen=True)
class Runtime:
    """How a run is executed; nothing here changes what is learned.

    Attributes:
        num_devices: The number of devices that share each batch; 0 for as many as there
            are and divide it.
        matmul_precision: The precision of matrix products in training: float32,
            tensorfloat32 or bfloat16. Norms, mixing, averages and evaluation are in
            float32.
        checkpoint_minutes: The minutes between checkpoints within an epoch; 0 for
            checkpoints at its end only.
        on_nonfinite: What to do about a loss or gradient that is not finite: stop; skip
            that update; or rewind to the newest checkpoint and draw other dropout
            masks.
        check: Whether to compare a GPU or TPU with the CPU on one update before
            training on it. A check that was passed is not repeated.

    Raises:
        UsageError: A field does not have its type, or is outside its range.

    Example:
        >>> Runtime(matmul_precision="float16")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: Runtime.matmul_precision is 'float16'; it must be one \
of bfloat16, float32, tensorfloat32
    """

    num_devices: int = field(default=0, metadata=at_least(0))
    matmul_precision: str = field(default="float32", metadata=choice(PRECISIONS))
    checkpoint_minutes: float = field(default=5.0, metadata=at_least(0))
    on_nonfinite: str = field(default="stop", metadata=choice(ON_NONFINITE))
    check: bool = True

    def __post_init__(self):
        check(self)

    def execution(self, config: Config) -> "Execution":
        """How a run of a config is executed on the devices that are there.

        Of several processes all call it, and connect.

        Raises:
            UsageError: There are fewer devices, or they do not divide the batch; or
                processes were given different settings.
        """
        processes.here().agree(
            {
                "settings": lambda: f"{to_json(config)}{self}",
                "numbers": lambda: to_json(numerics(self.matmul_precision)),
                "versions": lambda: str([version(name) for name in VERSIONS]),
            }
        )
        share = config.batch_size // config.num_microbatches
        mesh = devices.share_batch(share, self.num_devices)
        devices.meet(mesh)
        return Execution(
            mesh,
            PRECISIONS[self.matmul_precision],
            self.checkpoint_minutes,
            self.on_nonfinite,
            self.check,
        )


class Execution(NamedTuple):
    """How a run is executed; nothing here says what is learned.

    Attributes:
        mesh: The devices that share a batch; `None` for one device.
        precision: The precision of matrix products in training, as `training_step`
            takes it.
        checkpoint_minutes: The minutes between checkpoints within an epoch; 0 for none.
        on_nonfinite: What to do about a loss or gradient that is not finite, one of
            `ON_NONFINITE`.
        check_device: Whether a device is compared with the CPU before it is trained on.
    """

    mesh: Mesh | None = None
    precision: str | None = None
    checkpoint_minutes: float = 5.0
    on_nonfinite: str = "stop"
    check_device: bool = True
