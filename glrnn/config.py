"""What is learned: the settings of a run, checked as they are made.

A `Config` says everything that decides the result and nothing about where or how it is
computed. Python, the command line and JSON all pass through the same checks.
"""

from dataclasses import dataclass, field

from glrnn.cells import CELLS
from glrnn.errors import UsageError
from glrnn.heads import HEADS
from glrnn.settings import above, at_least, check, choice, rate


@dataclass(frozen=True)
class Layer:
    """One recurrent layer.

    Attributes:
        cell: Its cell: lstm.
        hidden_size: Its hidden units, H.
    """

    cell: str = field(default="lstm", metadata=choice(CELLS))
    hidden_size: int = field(default=128, metadata=at_least(1))

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class Dropout:
    """Probabilities of dropping, one a place.

    Attributes:
        embedding: Whole word types of the input embedding.
        input: The embedded input.
        hidden: The output of every layer but the last of the phase, one rate each.
        output: The output of the last layer.
        latent: The latent vectors of a mixture of softmaxes.
        recurrent: Weight-drop, on every layer's hidden-to-hidden matrix.
    """

    embedding: float = field(default=0.0, metadata=rate())
    input: float = field(default=0.0, metadata=rate())
    hidden: tuple[float, ...] = field(default=(), metadata=rate())
    output: float = field(default=0.0, metadata=rate())
    latent: float = field(default=0.0, metadata=rate())
    recurrent: float = field(default=0.0, metadata=rate())

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class Stage:
    """A stretch of training at one learning rate.

    Attributes:
        epochs: How many at the most; 0 leaves finetuning out.
        learning_rate: Of a window of the usual length; scaled by each window's own.
        max_norms: Largest gradient norms: one number for the whole gradient, or one for
            the embedding, each layer, and the head where it has parameters.
        patience: Ends the stage after so many epochs without a lower validation loss;
            0 for never.
    """

    epochs: int = field(default=0, metadata=at_least(0))
    learning_rate: float = field(default=20.0, metadata=above(0))
    max_norms: tuple[float, ...] = field(default=(0.25,), metadata=above(0))
    patience: int = field(default=0, metadata=at_least(0))

    def __post_init__(self):
        check(self)
        if not self.max_norms:
            raise UsageError("Stage.max_norms is empty; give at least one number")


@dataclass(frozen=True)
class Phase:
    """The training of one depth of the network.

    Attributes:
        num_layers: How many of `Config.layers`, from the first on.
        dropout: Its rates, in both stages.
        main: Plain SGD until the validation loss stops falling, averaged SGD after.
        finetune: Averaged SGD from the first update on, starting from the best of
            `main`.
    """

    num_layers: int = field(default=1, metadata=at_least(1))
    dropout: Dropout = Dropout()
    main: Stage = Stage(epochs=1)
    finetune: Stage = Stage()

    def __post_init__(self):
        check(self)
        if self.main.epochs == 0:
            raise UsageError("Phase.main.epochs is 0; it must be at least 1")
        if len(self.dropout.hidden) != self.num_layers - 1:
            raise UsageError(
                f"Dropout.hidden has {len(self.dropout.hidden)} rates; a phase of "
                f"{self.num_layers} layers takes {self.num_layers - 1}, one for each "
                f"layer but the last"
            )


def _quickstart_phase(num_layers: int, epochs: int, finetune_epochs: int) -> Phase:
    max_norms = (0.2, *(0.25,) * num_layers)
    return Phase(
        num_layers=num_layers,
        dropout=Dropout(
            embedding=0.05,
            input=0.1,
            hidden=(0.1,) * (num_layers - 1),
            output=0.2,
            recurrent=0.1,
        ),
        main=Stage(epochs, learning_rate=30.0, max_norms=max_norms),
        finetune=Stage(finetune_epochs, learning_rate=30.0, max_norms=max_norms),
    )


@dataclass(frozen=True)
class Config:
    """A whole run. `Config()` is the quickstart.

    Attributes:
        embedding_size: E, shared by input and output.
        layers: The recurrent layers, all of them; a phase uses the first few.
        head: The output distribution: softmax, or mixture (of softmaxes).
        num_softmaxes: K of a mixture of softmaxes.
        phases: What is trained after what; each deeper than the one before.
        inherit_head: Whether a phase takes over the head of the one before, or begins
            with a random one.
        batch_size: B, sequences trained side by side.
        small_batch_size: How many of them at a time, to save memory: gradients are
            added up until the whole batch has been seen. 0 for all at once.
        window_length: Usual tokens in a window; the real lengths are drawn around it.
        activation_regularization: alpha, weight of AR.
        temporal_activation_regularization: beta, weight of TAR.
        weight_decay: Coupled, added after clipping.
        nonmonotonic: How many latest epochs the averaging trigger does not look at.
        valid_batch_size: Columns the validation set is cut into.
        test_batch_size: Columns the test set is cut into.
        seed: Of everything that is random.
    """

    embedding_size: int = field(default=128, metadata=at_least(1))
    layers: tuple[Layer, ...] = (Layer(),) * 3
    head: str = field(default="softmax", metadata=choice(HEADS))
    num_softmaxes: int = field(default=1, metadata=at_least(1))
    phases: tuple[Phase, ...] = (
        _quickstart_phase(num_layers=1, epochs=4, finetune_epochs=1),
        _quickstart_phase(num_layers=2, epochs=1, finetune_epochs=1),
        _quickstart_phase(num_layers=3, epochs=1, finetune_epochs=1),
    )
    inherit_head: bool = True
    batch_size: int = field(default=16, metadata=at_least(1))
    small_batch_size: int = field(default=0, metadata=at_least(0))
    window_length: int = field(default=35, metadata=at_least(2))
    activation_regularization: float = field(default=2.0, metadata=at_least(0))
    temporal_activation_regularization: float = field(default=1.0, metadata=at_least(0))
    weight_decay: float = field(default=1.2e-6, metadata=at_least(0))
    nonmonotonic: int = field(default=5, metadata=at_least(0))
    valid_batch_size: int = field(default=10, metadata=at_least(1))
    test_batch_size: int = field(default=1, metadata=at_least(1))
    seed: int = field(default=28, metadata=at_least(0))

    def __post_init__(self):
        check(self)
        if self.small_batch_size and self.batch_size % self.small_batch_size:
            raise UsageError(
                f"Config.small_batch_size is {self.small_batch_size}; it must divide "
                f"the batch size, {self.batch_size}, or be 0"
            )
        depths = [phase.num_layers for phase in self.phases]
        if (
            not depths
            or sorted(set(depths)) != depths
            or depths[-1] != len(self.layers)
        ):
            raise UsageError(
                f"phases have {depths} layers; the numbers must rise and end at "
                f"{len(self.layers)}, the number of Config.layers"
            )
        for number, phase in enumerate(self.phases, 1):
            try:
                self._check_phase(phase)
            except ValueError as error:
                raise UsageError(f"phase {number}: {error}") from None
        sizes = [self.layers[depth - 1].hidden_size for depth in depths]
        if self.inherit_head and self.head != "softmax" and len(set(sizes)) > 1:
            raise UsageError(
                f"the last layers of the phases have {sizes} hidden units, so that one "
                f"phase's head does not fit the next; make them equal or set "
                f"inherit_head to False"
            )

    @property
    def num_parts(self) -> int:
        """How many parts of the batch a gradient is added up from."""
        return self.batch_size // (self.small_batch_size or self.batch_size)

    def _check_phase(self, phase: Phase) -> None:
        """Raises ValueError unless the head fits the phase, and the phase the head."""
        head = HEADS[self.head](
            self.layers[phase.num_layers - 1].hidden_size,
            self.embedding_size,
            self.num_softmaxes,
        )
        if head.latent_size is None and phase.dropout.latent:
            raise UsageError(
                f"Dropout.latent is {phase.dropout.latent}, but a {self.head} head has "
                f"no latent vectors; it must be 0"
            )
        groups = 1 + phase.num_layers + (head.latent_size is not None)
        for name, stage in (("main", phase.main), ("finetune", phase.finetune)):
            if len(stage.max_norms) not in (1, groups):
                raise UsageError(
                    f"{name}.max_norms has {len(stage.max_norms)} numbers; a "
                    f"{self.head} network of {phase.num_layers} layers takes 1 or "
                    f"{groups}: the embedding's, one for each layer"
                    + (", the head's" if head.latent_size is not None else "")
                )
