"""The settings of a run: everything that decides what is learned.

A `Config` says nothing about where or how a run is computed. Python, the command line
and JSON all pass through the same checks.
"""

import inspect
from dataclasses import dataclass, field

from glrnn.config.gradual import Averaging, Phase, Stage
from glrnn.config.network import Dropout, Layer
from glrnn.data.vocabulary import ORDERS
from glrnn.errors import UsageError
from glrnn.ground.validation import above, at_least, between, check, choice
from glrnn.heads import HEADS, make_head
from glrnn.optim.learning_rate import RULES

# The largest number of layers: each is compiled by itself.
MOST_LAYERS = 100
# The largest number of updates in an epoch, whose windows are laid out beforehand.
MOST_UPDATES = 10_000_000


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
    """The settings of a whole run. `Config()` is the quickstart.

    Attributes:
        embedding_size: The size of the embedding that input and output share, E.
        embedding_bound: The bound a of the distribution U(-a, a) that the embedding is
            drawn from; None for a normal distribution of variance 1/E, truncated at two
            standard deviations.
        layers: All recurrent layers, at most 100; a phase trains the first few of them.
        head: The output distribution: softmax, projected (a softmax of the outputs
            projected down to the embedding's size), mixture (of softmaxes), or adaptive
            (a softmax of the frequent words, and smaller ones of the rare words).
        num_softmaxes: The number of softmaxes in a mixture, K.
        cutoffs: The first word of each cluster of rare words in an adaptive softmax;
            none for those that cost least by the frequencies of the words.
        sum_outputs: Whether the head sees the sum of all layers' outputs instead of the
            last layer's output.
        phases: The phases of training, in order, each deeper than the one before.
        inherit_head: Whether a phase starts with the head of the phase before instead
            of a random one.
        batch_size: The number of sequences in a batch, B.
        small_batch_size: The number of sequences in a microbatch: gradients are
            accumulated over the microbatches of a batch, to save memory. 0 for the
            whole batch at once.
        window_length: The usual number of tokens in a window; the lengths of windows
            are drawn around it.
        fixed_windows: Whether all windows have the usual length.
        updates_per_epoch: The number of updates in an epoch, after which the validation
            set is scored, at most 10 million; 0 for a whole pass over the training set.
        masks_per_step: Whether the dropout masks on inputs and outputs of layers are
            drawn anew for every time step instead of once a window.
        word_masks_per_sequence: Whether each sequence of a batch drops word types of
            its own, instead of all sequences the same ones.
        optimizer: The update rule: sgd, or rms (gradients divided by their root mean
            square).
        sum_over_time: Whether the loss is the sum over the time steps of a window
            instead of the mean.
        activation_regularization: alpha, the weight of activation regularization (AR).
        temporal_activation_regularization: beta, the weight of temporal activation
            regularization (TAR).
        weight_decay: The factor lambda of weight decay: lambda times the parameters is
            added to the clipped gradient.
        l2_penalty: The weight of half the squared norm of the parameters in the loss;
            its gradient is clipped with the rest.
        averaging: When averaging begins in the main stage, and when finetuning ends.
        min_count: The number of times that a word must occur in the training set to be
            in the vocabulary; all others are `<unk>`. 1 for every word of the training
            set; 0 for every word of all three splits.
        vocabulary_order: The order of the words: appearance (in the text) or frequency
            (in the training set), which an adaptive softmax needs.
        valid_batch_size: The number of columns that the validation set is cut into.
        test_batch_size: The number of columns that the test set is cut into.
        seed: The seed of everything that is random.
    """

    embedding_size: int = field(default=128, metadata=at_least(1))
    embedding_bound: float | None = field(default=0.1, metadata=above(0))
    layers: tuple[Layer, ...] = (Layer(),) * 3
    head: str = field(default="softmax", metadata=choice(HEADS))
    num_softmaxes: int = field(default=1, metadata=at_least(1))
    cutoffs: tuple[int, ...] = field(default=(), metadata=at_least(1))
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
    updates_per_epoch: int = field(default=0, metadata=between(0, MOST_UPDATES))
    masks_per_step: bool = False
    word_masks_per_sequence: bool = False
    optimizer: str = field(default="sgd", metadata=choice(RULES))
    sum_over_time: bool = False
    activation_regularization: float = field(default=2.0, metadata=at_least(0))
    temporal_activation_regularization: float = field(default=1.0, metadata=at_least(0))
    weight_decay: float = field(default=1.2e-6, metadata=at_least(0))
    l2_penalty: float = field(default=0.0, metadata=at_least(0))
    averaging: Averaging = field(default_factory=Averaging)
    min_count: int = field(default=0, metadata=at_least(0))
    vocabulary_order: str = field(default="appearance", metadata=choice(ORDERS))
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
        self._check_layers()
        for number, phase in enumerate(self.phases, 1):
            try:
                self._check_phase(phase)
            except ValueError as error:
                raise UsageError(f"phase {number}: {error}") from None
        self._check_inherited_head()

    @property
    def num_microbatches(self) -> int:
        """The number of microbatches that a gradient is accumulated over."""
        return self.batch_size // (self.small_batch_size or self.batch_size)

    @property
    def has_cutoffs(self) -> bool:
        """Whether the head has clusters of rare words."""
        return "cutoffs" in inspect.signature(HEADS[self.head]).parameters

    def _check_layers(self) -> None:
        """Raises UsageError unless the layers can be summed and all are trained."""
        if len(self.layers) > MOST_LAYERS:
            raise UsageError(
                f"Config.layers has {len(self.layers)} entries; it must have at most "
                f"{MOST_LAYERS}"
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

    def _check_inherited_head(self) -> None:
        """Raises UsageError unless each phase's head fits the next phase."""
        sizes = [self.layers[phase.num_layers - 1].hidden_size for phase in self.phases]
        if self.inherit_head and self.head != "softmax" and len(set(sizes)) > 1:
            raise UsageError(
                f"the last layers of the phases have {sizes} hidden units, so that one "
                f"phase's head does not fit the next; make them equal or set "
                f"inherit_head to False"
            )

    def _check_phase(self, phase: Phase) -> None:
        """Raises ValueError unless the head fits the phase, and the phase the head."""
        head = make_head(
            self.head,
            self.layers[phase.num_layers - 1].hidden_size,
            self.embedding_size,
            self.num_softmaxes,
            cutoffs=self.cutoffs,
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
                    f"{name}.max_norms has {len(stage.max_norms)} numbers; with "
                    f"{phase.num_layers} layers and the head {self.head} it takes 1 or "
                    f"{groups}: the embedding's, one for each layer"
                    + (", the head's" if head.latent_size is not None else "")
                )
