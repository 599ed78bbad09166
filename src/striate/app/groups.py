"""The groups of a recipe's keys, each typed, with what every key means: what `striate train --schema` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator


class Strict(BaseModel):
    """Unknown keys are errors, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSettings(Strict):
    """Which pictures."""

    store: Path | None = Field(None, description="an image store; given on the command line as data.store=...")
    limit: int | None = Field(None, ge=1, description="use only so many of its pictures")


class PreprocessGroup(Strict):
    """From pixel levels to what the model sees (striate.preprocess.PreprocessSettings)."""

    kind: Literal["whiten", "delete", "standardise", "scale", "mean"] = "whiten"
    delete: int = Field(0, ge=0, description="least significant directions to delete")
    epsilon: float = Field(0.0, ge=0, description="added to eigenvalues, in squared pixel levels")
    contrast: bool = Field(False, description="normalise each picture's brightness and contrast first")
    patch: int | None = Field(None, ge=2, description="edge of the patches the model sees; null: whole pictures")
    patches: int = Field(100_000, ge=2, description="how many patches to draw")


class StartSettings(Strict):
    """Start a model of whole pictures from a model of patches of them (Krizhevsky 2009, section 2.5)."""

    patch: int = Field(8, ge=2, description="edge of the patches")
    hidden: int = Field(200, ge=1, description="units of the patch model; copies of it tile the picture")
    stride: int = Field(4, ge=1, description="pixels from one copy to the next")
    patches: int = Field(100_000, ge=2)
    epochs: int = Field(8, ge=1)
    learning_rate: float = Field(5e-2, gt=0)
    hidden_bias: float = -4.0
    sparsity_target: float | None = 0.02
    sparsity_cost: float = 10.0
    weight_std: float = Field(0.01, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    scale: float = Field(1.0, gt=0, description="factor on the copied weights")


class RBMGroup(Strict):
    """One restricted Boltzmann machine."""

    kind: Literal["rbm"] = "rbm"
    below: Path | None = Field(None, description="a run whose activities this layer is trained on: a deep belief net")
    transpose: bool = Field(False, description="start from the layer below upside down; `hidden` then follows from it")
    visible: Literal["gaussian", "bernoulli"] = "gaussian"
    hidden: int = Field(256, ge=1)
    sigma: float = Field(1.0, gt=0, description="standard deviation of Gaussian visible units, in data units")
    weight_std: float = Field(0.01, gt=0)
    hidden_bias: float = 0.0
    init: Path | None = Field(None, description="a run to start from: its weights; `hidden` then follows from it")
    start: StartSettings | None = Field(None, description="begin from a patch model; `hidden` then follows from it")


class PatchesGroup(Strict):
    """RBMs of patches, one for each place and one for the picture made small, trained side by side (section 2.5)."""

    kind: Literal["patch-rbms"]
    below: None = None
    patch: int = Field(8, ge=2, description="edge of the patches; the pictures' is a multiple of it")
    hidden: int = Field(300, ge=1, description="units of each")
    sigma: float = Field(1.0, gt=0, description="standard deviation of the visible units, in data units")
    weight_std: float = Field(0.01, gt=0)
    hidden_bias: float = 0.0


class NetGroup(Strict):
    """Sigmoid layers under a softmax, from finished runs or at random (Krizhevsky 2009, section 3.2)."""

    kind: Literal["net"]
    below: Path | None = Field(None, description="a run of RBMs to start from, with a logistic regression on its features")
    layers: list[str] | None = Field(None, description="layers of finished nets to start from, lowest first: RUN:NUMBER, ...")
    hidden: list[int] | None = Field(None, description="units of hidden layers, for a net that starts at random")
    gain: float = Field(1.0, gt=0, description="standard deviation of total inputs at a random start")

    @field_validator("layers")
    @classmethod
    def _named_layers(cls, layers: list[str] | None) -> list[str] | None:
        for text in layers or []:
            run, _, number = text.rpartition(":")
            if not run or not number.isdigit():
                raise ValueError(f"{text!r} is no RUN:NUMBER, for example runs/net:1")
        return layers


class AutoencoderGroup(Strict):
    """A stack of RBMs unrolled into an encoder and its mirror, trained as one net; its top layer is the code."""

    kind: Literal["autoencoder"]
    below: Path = Field(description="the run of RBMs to unroll")
    linear_code: bool = Field(False, description="code units without a sigmoid")
    code_noise: float = Field(0.0, ge=0, description="noise on the code's total inputs; 4 makes its units binary")


class ConvnetGroup(Strict):
    """A convolutional net by name (Krizhevsky, Sutskever, Hinton 2012)."""

    kind: Literal["convnet"]
    below: None = None
    net: str = Field(
        description="paper, source, half, one-gpu, caffenet, six-conv; 80sec, 19pct, 18pct, 13pct, 11pct, race-..."
    )
    switches: dict[str, Any] = Field(default_factory=dict, description="changes of the profile: striate show paper lists them")
    classes: int | None = Field(None, ge=2, description="units of the last layer; null: as many as the pictures have")
    crop: int | None = Field(None, ge=1, description="edge of the crops it sees; null: augment.crop, or the net's own")
    init: Path | None = Field(None, description="a finished net to start from; its classifier only where classes agree")


class AugmentGroup(Strict):
    """Convolutional nets: what makes many training pictures of one (section 4.1)."""

    crop: int | None = Field(None, ge=1, description="edge of the crops; null: whole pictures")
    offsets: Literal["all", "paper"] = Field("all", description="33 each way of 224 in 256, or the 32 of the paper's text")
    reflect: bool = Field(False, description="mirror half of the crops")
    chunk: int = Field(1, ge=1, description="so many pictures share a crop; 32 in the authors' code")
    colour_noise: float = Field(0.0, ge=0, description="standard deviation of factors on colour components; the paper: 0.1")
    colour: Literal["deviation", "eigenvalue", "eigenvalue-unit"] = Field("deviation", description="what the factors multiply")
    colour_until: int | None = Field(None, ge=0, description="the epoch from which there is no colour noise")
    divide: float = Field(1.0, gt=0, description="divide levels by this after the mean is off; 1.1 in the authors' code")


class StageGroup(Strict):
    """From an epoch on."""

    epoch: float = Field(ge=0)
    factor: float = Field(1.0, ge=0, description="on the learning rate")
    layers: dict[str, float] = Field(default_factory=dict, description="further factors by layer; 0 freezes one")


class PlateauGroup(Strict):
    """Rates that fall when the held-out error stops falling."""

    patience: int = Field(5, ge=1, description="epochs without a new best before a drop")
    divide: float = Field(10.0, gt=1)
    drops: int = Field(3, ge=0)


class ExponentialGroup(Strict):
    """Drops at even distances."""

    total: float = Field(250.0, ge=1, description="by how much the rate is divided in all")
    steps: int = Field(4, ge=1)


class FieldGroup(Strict):
    """How a stage of a sparse autoencoder learns from single fields (striate.train.field_rules.FieldRule)."""

    rule: Literal["components", "winners"] = Field("components", description="reconstruction ICA, or spherical k-means")
    penalty: float = Field(1.0, ge=0, description="components: lambda, on the sum of answers")
    forget: float = Field(0.01, ge=0, lt=1, description="share of what the rule remembers that is forgotten at each step")
    settle: float = Field(0.2, gt=0, lt=1, description="share of the stage's steps that go to mean and covariance")
    keep: int | None = Field(None, ge=1, description="principal components of a field to learn from; null: all")
    floor: float = Field(0.01, ge=0, description="added to each component's variance, as a share of the mean one")
    without_mean: bool = Field(False, description="leave out the direction of the mean field, which offsets answers")
    fields: int = Field(4, ge=1, description="of each picture at a step")
    apart: float = Field(0.0, ge=0, le=1, description="share of the learning steps in which each bank learns for itself")


class TrainGroup(Strict):
    """The learning rule, its schedule, and what is kept."""

    epochs: float = Field(10, gt=0)
    batch_size: int = Field(128, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    hold: float = Field(0.5, ge=0, le=1, description="share of the run before the rate falls")
    warmup_steps: int = Field(0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    initial_momentum: float = Field(0.5, ge=0, lt=1)
    momentum_steps: int = Field(500, ge=0)
    weight_decay: float = Field(1e-4, ge=0)
    sparsity_target: float | None = Field(None, gt=0, lt=1)
    sparsity_cost: float = Field(1.0, ge=0)
    k: int = Field(1, ge=1, description="Gibbs steps")
    chains: int | None = Field(None, ge=1, description="kept chains: PCD; null: CD")
    sample_visible: bool = True
    sample_data: bool = Field(False, description="binary visible units: draw states from the data's levels at each step")
    sigma_rate: float = Field(0.0, ge=0, description="factor on the rate for learning gaussian units' sigma; 0 keeps it fixed")
    sampler: Literal["gibbs", "fast", "tempering", "langevin"] = Field("gibbs", description="how negative states are drawn")
    fast_rate: float = Field(1.0, ge=0, description="sampler=fast: rate of the fast weights beside the learning rate")
    temperatures: int = Field(10, ge=2, description="sampler=tempering: how many")
    langevin_step: float = Field(0.1, gt=0, le=1, description="sampler=langevin: a step's size; k says how many")
    centring: bool = Field(False, description="learn from activities less their running means")
    clip: float | None = Field(None, gt=0, description="most length of one filter's gradient")
    data_states: bool = Field(False, description="the data's hidden layer enters as states, not means: chapter 4's single bits")
    final_states: bool = Field(False, description="the same of the last hidden layer")
    dtype: Literal["auto", "fp32", "tf32", "bf16", "fp64"] = Field("auto", description="of products; fp64: rbm alone")
    rates: list[float] = Field([1.0], min_length=1, description="nets: factor on each layer's rate, lowest first; 0 freezes")
    dropout: float = Field(0.0, ge=0, lt=1, description="nets: share of hidden units left out")
    validation: float = Field(0.0, ge=0, lt=0.9, description="nets: share of the pictures held out to stop by")
    patience: int | None = Field(None, ge=1, description="nets: epochs without a better held-out error before the end")
    layer_rates: dict[str, float] = Field(default_factory=dict, description="convnets: factors by layer; 0 freezes one")
    bias_rate: float = Field(2.0, ge=0, description="convnets: factor on the rate of biases")
    rule: Literal["paper", "torch"] = Field("paper", description="convnets: the rate inside the velocity, or outside")
    stages: list[StageGroup] = Field(default_factory=list, description="convnets: factors from epochs on")
    plateau: PlateauGroup | None = Field(None, description="convnets: divide the rate when train.validation's error stalls")
    exponential: ExponentialGroup | None = Field(None, description="convnets: divide the rate at even distances")
    until_error: float | None = Field(None, gt=0, lt=1, description="convnets: stop when an epoch's training error is this")
    average: float = Field(0.0, ge=0, lt=1, description="convnets: share of the past in a running average of the parameters")
    compile: Literal["none", "norms", "net", "graphs"] = Field("none", description="convnets: what torch compiles")
    penalty: list[float] = Field([0.1], min_length=1, description="sparse autoencoders: lambda; one, or one a stage")
    together: Literal["joint", "apart", "greedy", "fields"] = Field(
        "joint", description="sparse autoencoders: how stages learn; fields: one after another, from whitened fields"
    )
    fields: list[FieldGroup] = Field(default_factory=list, description="together=fields: one rule a stage")
    optimiser: Literal["adagrad", "sgd"] = Field("adagrad", description="sparse autoencoders")
    forget: float = Field(0.0, ge=0, lt=1, description="optimiser=adagrad: share of the sums of squares forgotten at each step")
    top_first: float = Field(
        0.0, ge=0, le=1, description="recognisers: share of the run in which the top alone learns; 1: stages stay as they are"
    )
    top_rate: float = Field(30.0, gt=0, description="recognisers: factor on the top's rate: its inputs are of length one")
    unit_filters: bool = Field(True, description="sparse autoencoders: keep the encoder's filters at norm one")
    workers: int | None = Field(None, ge=0, description="convnets: threads that decode and cut; null: one a core")
    log_every: int = Field(50, ge=1)
    checkpoint_every_s: float = Field(120.0, gt=0)
    keep: int = Field(2, ge=1, description="checkpoints kept")
    snapshots: int = Field(10, ge=1, description="moments at which filters are kept for the report")
    memory_gb: float = Field(4.0, gt=0, description="preprocess once and keep in memory up to this size; else stream")


class ExchangeGroup(Strict):
    """How replicas that are trained apart come to one model (`striate train --replicas`): see docs/asynchronous.md."""

    mode: Literal["downpour", "synchronous", "local", "diloco"] = Field(
        "downpour",
        description="downpour: each at its own pace; synchronous: averaged at each step; local, diloco: every push_every",
    )
    rule: Literal["auto", "adagrad", "momentum", "sgd", "delta"] = Field(
        "auto", description="of the parameter shards; auto: the model's own for gradients, delta where it gives none"
    )
    shards: int | None = Field(None, ge=1, description="processes that hold parameters; null: one for every 64 million")
    pull_every: int | Literal["auto"] = Field(
        1, description="steps from pull to pull; auto: as planned; changes (rule=delta) are answered at each push"
    )
    push_every: int | Literal["auto"] | None = Field(
        None, description="steps from push to push; auto: as planned; null: 1, local and diloco 50"
    )
    rate: float | None = Field(
        None, gt=0, description="the shards' learning rate; null: the recipe's schedule (diloco: 0.7; delta: 1 / K)"
    )
    momentum: float | None = Field(None, ge=0, lt=1, description="the shards'; null: the recipe's schedule (diloco: 0.9)")
    warm_start_steps: int | None = Field(
        None, ge=0, description="minibatches that one replica learns from alone first; null: downpour of gradients 100"
    )
    compress: Literal["none", "bf16", "topk"] = Field("none", description="of what is pushed; pays over networks alone")
    keep: float = Field(0.01, gt=0, le=1, description="compress=topk: share of the numbers that are sent")
    snapshot_every_s: float = Field(5.0, gt=0, description="seconds of updates that a lost shard may lose")
    snapshots: Path | None = Field(None, description="folder for them, which all machines see; null: in the run directory")
    patience_s: float = Field(60.0, gt=0, description="how long a replica may be silent before it is replaced")

    @field_validator("pull_every", "push_every", mode="before")
    @classmethod
    def _interval(cls, every: Any, info: ValidationInfo) -> Any:
        left_out = every is None and info.field_name == "push_every"
        if not left_out and every != "auto" and not (isinstance(every, int) and every >= 1):
            raise ValueError(f"expected a number of steps from 1, or auto, found {every!r}")
        return every


class ClusterGroup(Strict):
    """How several processes train one model together; one process needs none of it."""

    mode: Literal["auto", "both", "each-update", "hidden", "visible", "data"] = Field(
        "auto",
        description="who holds which weights; auto: the fastest by measured rates",
    )
    parts: int | None = Field(None, ge=1, description="pieces of a batch, each sent while the next is worked on")
    grid: tuple[int, int] | None = Field(
        None, description="sparse autoencoders: rows and columns of processes; null: where borders are shortest"
    )
    sync_images: int = Field(8000, ge=0, description="mode=both: images between making its copies of weights one")
    transport: Literal["auto", "collective", "pairs"] = Field("auto", description="how activities travel; auto: as measured")
    timeout_s: float = Field(300.0, gt=0, description="how long to wait for another process before it counts as lost")
    exchange: ExchangeGroup = ExchangeGroup()


class EvalGroup(Strict):
    """How features are judged."""

    layer: str | None = Field(None, description="layer to probe; null: the last")
    limit: int | None = Field(None, ge=1, description="probe with at most so many training pictures")
