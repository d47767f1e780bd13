"""What is learned: the settings of a run, checked as they are made.

A `Config` says everything that decides the result and nothing about where or how it is
computed. Python, the command line and JSON all pass through the same checks.
"""

import inspect
from dataclasses import dataclass, field

from glrnn.cells import CELLS
from glrnn.errors import UsageError
from glrnn.heads import HEADS
from glrnn.optim.averaging import TRIGGERS
from glrnn.optim.learning_rate import RULES, Schedule
from glrnn.validation import above, at_least, check, choice, rate


@dataclass(frozen=True)
class Layer:
    """One recurrent layer.

    Attributes:
        cell: Its cell: capped, gru, lstm, mogrifier, nas or rhn.
        hidden_size: Its hidden units, H.
        depth: Micro-steps of an rhn, rounds of a mogrifier; none for the cell's own.
        rank: Of the matrices in the rounds of a mogrifier, 0 for full ones; none for
            the cell's own.
    """

    cell: str = field(default="lstm", metadata=choice(CELLS))
    hidden_size: int = field(default=128, metadata=at_least(1))
    depth: int | None = field(default=None, metadata=at_least(0))
    rank: int | None = field(default=None, metadata=at_least(0))

    def __post_init__(self):
        check(self)
        known = inspect.signature(CELLS[self.cell]).parameters
        for name, value in self.options.items():
            if name not in known:
                raise UsageError(
                    f"Layer.{name} is {value}, but a cell of the kind {self.cell} has "
                    f"no {name}; leave it out"
                )
        try:
            CELLS[self.cell](1, self.hidden_size, **self.options)
        except ValueError as error:
            raise UsageError(str(error)) from None

    @property
    def options(self) -> dict[str, int]:
        """What the cell is told beside its sizes: all other fields that are given."""
        others = {**vars(self)}
        del others["cell"], others["hidden_size"]
        return {name: value for name, value in others.items() if value is not None}


@dataclass(frozen=True)
class Dropout:
    """Probabilities of dropping, one a place.

    Attributes:
        embedding: Whole word types of the input embedding.
        input: The embedded input.
        hidden: The output of every layer but the last of the phase, one rate each.
        output: The output of the last layer.
        latent: What a projected head or a mixture compares with the embedding.
        recurrent: Weight-drop, on every layer's hidden-to-hidden matrix.
        state: The hidden state of every layer, on its way to the next time step.
        carry: Of a sequence, all that came before the window.
    """

    embedding: float = field(default=0.0, metadata=rate())
    input: float = field(default=0.0, metadata=rate())
    hidden: tuple[float, ...] = field(default=(), metadata=rate())
    output: float = field(default=0.0, metadata=rate())
    latent: float = field(default=0.0, metadata=rate())
    recurrent: float = field(default=0.0, metadata=rate())
    state: float = field(default=0.0, metadata=rate())
    carry: float = field(default=0.0, metadata=rate())

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class Stage:
    """A stretch of training by one update rule.

    Attributes:
        epochs: How many at the most; 0 leaves finetuning out.
        learning_rate: Of a window of the usual length; scaled by each window's own
            unless losses are summed over time.
        max_norms: Largest gradient norms: one number for the whole gradient, or one for
            the embedding, each layer, and the head where it has parameters.
        patience: Ends the stage after so many epochs without a lower validation loss;
            0 for never.
        minutes: Ends the stage with the epoch in which so many minutes are over, in
            place of any other rule but the number of epochs; 0 for never. Such a run is
            another one on another machine.
        schedule: How the learning rate falls.
    """

    epochs: int = field(default=0, metadata=at_least(0))
    learning_rate: float = field(default=20.0, metadata=above(0))
    max_norms: tuple[float, ...] = field(default=(0.25,), metadata=above(0))
    patience: int = field(default=0, metadata=at_least(0))
    minutes: float = field(default=0.0, metadata=at_least(0))
    schedule: Schedule = field(default_factory=Schedule)

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
        main: Plain updates until the trigger, averaged ones after.
        finetune: Averaged from the first update on, starting from the best of `main`.
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
        embedding_bound: a of the distribution U(-a, a) that the embedding starts from;
            none for a normal one of variance 1/E, truncated at two deviations.
        layers: The recurrent layers, all of them; a phase uses the first few.
        head: The output distribution: softmax, projected (a softmax of the outputs
            projected down to the embedding's size), or mixture (of softmaxes).
        num_softmaxes: K of a mixture of softmaxes.
        sum_outputs: Whether the head sees the sum of all layers' outputs, and not the
            last one's.
        phases: What is trained after what; each deeper than the one before.
        inherit_head: Whether a phase takes over the head of the one before, or begins
            with a random one.
        batch_size: B, sequences trained side by side.
        small_batch_size: How many of them at a time, to save memory: gradients are
            added up until the whole batch has been seen. 0 for all at once.
        window_length: Usual tokens in a window; the real lengths are drawn around it.
        fixed_windows: Whether all windows have the usual length.
        updates_per_epoch: How many updates come before the validation set is looked at;
            0 for a whole pass over the training set.
        masks_per_step: Whether the masks on inputs and outputs of layers are drawn anew
            for every time step, and not once a window.
        word_masks_per_sequence: Whether each sequence is without words of its own, and
            not all without the same.
        optimizer: sgd, or rms (gradients in units of their root mean square).
        sum_over_time: Whether the loss is the sum over the time steps of a window, and
            not the mean.
        activation_regularization: alpha, weight of AR.
        temporal_activation_regularization: beta, weight of TAR.
        weight_decay: Times the parameters, added to the clipped gradient.
        l2_penalty: Of the loss, so that it is clipped with it.
        trigger: When averaging begins in the main stage: non_monotonic, plateau (no
            lower validation loss for so many epochs) or never.
        nonmonotonic: How many latest epochs the trigger does not look at; of a plateau,
            how many there must be.
        averaging_latest: After so many epochs averaging begins anyway; 0 for never.
        valid_batch_size: Columns the validation set is cut into.
        test_batch_size: Columns the test set is cut into.
        seed: Of everything that is random.
    """

    embedding_size: int = field(default=128, metadata=at_least(1))
    embedding_bound: float | None = field(default=0.1, metadata=above(0))
    layers: tuple[Layer, ...] = (Layer(),) * 3
    head: str = field(default="softmax", metadata=choice(HEADS))
    num_softmaxes: int = field(default=1, metadata=at_least(1))
    sum_outputs: bool = False
    phases: tuple[Phase, ...] = (
        _quickstart_phase(num_layers=1, epochs=4, finetune_epochs=1),
        _quickstart_phase(num_layers=2, epochs=1, finetune_epochs=1),
        _quickstart_phase(num_layers=3, epochs=1, finetune_epochs=1),
    )
    inherit_head: bool = True
    batch_size: int = field(default=16, metadata=at_least(1))
    small_batch_size: int = field(default=0, metadata=at_least(0))
    window_length: int = field(default=35, metadata=at_least(2))
    fixed_windows: bool = False
    updates_per_epoch: int = field(default=0, metadata=at_least(0))
    masks_per_step: bool = False
    word_masks_per_sequence: bool = False
    optimizer: str = field(default="sgd", metadata=choice(RULES))
    sum_over_time: bool = False
    activation_regularization: float = field(default=2.0, metadata=at_least(0))
    temporal_activation_regularization: float = field(default=1.0, metadata=at_least(0))
    weight_decay: float = field(default=1.2e-6, metadata=at_least(0))
    l2_penalty: float = field(default=0.0, metadata=at_least(0))
    trigger: str = field(default="non_monotonic", metadata=choice(TRIGGERS))
    nonmonotonic: int = field(default=5, metadata=at_least(0))
    averaging_latest: int = field(default=0, metadata=at_least(0))
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
        if self.trigger == "plateau" and self.nonmonotonic == 0:
            raise UsageError(
                "Config.nonmonotonic is 0; of the trigger plateau it must be at least 1"
            )
        sizes = [layer.hidden_size for layer in self.layers]
        if self.sum_outputs and len(set(sizes)) > 1:
            raise UsageError(
                f"Config.sum_outputs adds up the outputs of all layers, which have "
                f"{sizes} hidden units; make them equal"
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
        """The number of microbatches that a gradient is accumulated over."""
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
