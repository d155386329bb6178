"""Settings of the mixers: attention, Mamba-2 and Hyena."""

from dataclasses import dataclass, fields

from genotok.errors import InputError
from genotok.models.config_values import is_a


@dataclass
class AttentionConfig:
    """Attention, one value a stage.

    Attributes:
        heads: number of heads; must divide the stage's width.
        rotary_dim: how many features of a head the rotary embedding turns; even; 0 for none.
        window: how many earlier positions are seen; -1 for all.
        rotary_base: base of the rotary wave lengths.
        bias: whether the projections have biases.
        kv_heads: number of heads of keys and values, which must divide `heads`; None for as many as `heads`.
    """

    heads: list[int]
    rotary_dim: list[int]
    window: list[int]
    rotary_base: float = 10_000.0
    bias: bool = False
    kv_heads: list[int] | None = None

    def kv_heads_of(self, stage: int) -> int:
        """The heads of keys and values of a stage."""
        return (self.kv_heads or self.heads)[stage]


@dataclass
class Mamba2Config:
    """Mamba-2: state size, convolution taps, expansion, features a head, rows a scan block."""

    d_state: int = 128
    d_conv: int = 4
    expand: int = 2
    head_dim: int = 64
    chunk_size: int = 64

    def __post_init__(self) -> None:
        """Refuse what is no size."""
        for item in fields(self):
            value = getattr(self, item.name)
            if not is_a(int, value) or value < 1:
                raise InputError(f"mamba2.{item.name}: {value!r} should be a whole number, at least 1")


@dataclass
class HyenaConfig:
    """Hyena.

    Attributes:
        order: gates of a row; one long convolution less.
        max_length: longest sequence; the places in a filter are shares of it.
        d_filter, filter_layers: width of the network that writes the filters, and its layers between the first
            and the last.
        d_position: features of a place that it reads; odd.
        d_conv: taps of the short convolution.
        shift: what the decay of a filter falls to.
        frequency: of the network's sines in the beginning.
    """

    order: int = 2
    max_length: int = 8192
    d_filter: int = 64
    filter_layers: int = 2
    d_position: int = 5
    d_conv: int = 3
    shift: float = 0.05
    frequency: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        least = {"order": 2, "filter_layers": 0, "shift": 0, "frequency": 0}
        for item in fields(self):
            value, low = getattr(self, item.name), least.get(item.name, 1)
            if not is_a(item.type, value) or value < low:
                what = "a whole number" if item.type is int else "a number"
                raise InputError(f"hyena.{item.name}: {value!r} should be {what}, at least {low}")
        if self.d_position % 2 == 0:
            raise InputError(f"hyena.d_position: {self.d_position} should be odd")
