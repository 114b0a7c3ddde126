"""How large a DiCE is, and in what units it thinks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace

from ..errors import InputError

RELEASE_PATH_MM = 200.0
"""In the published code's projections, for an output of up to water's attenuation; it divides them by .2 m."""

RELEASE_STRETCH = 256 / 255
"""The published code takes the 256 voxel centres of an edge for points from face to face."""


@dataclass(frozen=True)
class Configuration:
    """Sizes of a network, and the units it was trained in. The defaults are the paper's.

    Parameters
    ----------
    widths : tuple of int
        Channels of the encoder on each scale, the finest first.
    cells : int
        Low-resolution cells along each edge of the box.
    codes : int
        Entries of each scale's codebook.
    decoder : int
        Channels of the 3D decoder.
    points : tuple of int
        Widths of the point decoder.
    denoising : bool
        Whether it has denoise layers: those that were adjusted to few views do.
    plain_output : bool
        Whether the point decoder ends in a linear layer, see `dice_layers.PointDecoder`.
    top : float
        Attenuation relative to water that the output 1 stands for.
    release : bool
        Whether space and line integrals are as in the published code, see `dice_release`.
    around : int
        Features of a first volume around it that a point is shown, see `first_volume`; what comes out is added to that volume. 0, as in
        the paper, if the network makes its volume from nothing but views.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128)
    cells: int = 32
    codes: int = 512
    decoder: int = 128
    points: tuple[int, ...] = (184, 128, 64, 16)
    denoising: bool = False
    plain_output: bool = False
    top: float = 2.0
    release: bool = False
    around: int = 0

    def __post_init__(self):
        for name in ("widths", "points"):
            object.__setattr__(self, name, tuple(int(n) for n in getattr(self, name)))
        sizes = (*self.widths, *self.points, self.cells, self.codes, self.decoder)
        if not self.widths or min(sizes) < 1 or self.around < 0 or not self.top > 0:
            raise InputError(f"a network of {sizes} channels, cells and codes: every size must be positive", "bad-option")
        if self.around and not self.plain_output:
            raise InputError("what is added to a first volume can be negative: give a plain output", "bad-option")

    @classmethod
    def from_card(cls, values: dict) -> Configuration:
        """That of a card, whose values `asdict` gave.

        Raises
        ------
        InputError
            Where something is missing, unknown or no size.
        """
        try:
            known = {field.name for field in fields(cls)}
            if set(values) != known:
                raise ValueError(f"{', '.join(sorted(set(values) ^ known))} missing or unknown")
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise InputError(f"the card's configuration is none of DiCE's ({error})", "bad-weights") from None

    def card(self) -> dict:
        """JSON values."""
        return asdict(self)

    def path_mm(self, edges_mm: tuple[float, float, float]) -> float:
        """Length of the path of water whose line integral is shown as 1, for a box of these edges."""
        return RELEASE_PATH_MM * self.top if self.release else max(edges_mm)


FULL = Configuration(denoising=True)
"""The paper's, adjusted to few views: 7.2 million numbers."""

COMPACT = Configuration((8, 16, 32, 64), cells=16, codes=256, decoder=32, points=(64, 48, 32), plain_output=True, around=8)
"""What trains on a CPU: it betters a first volume."""

VIEWS_ALONE = Configuration((8, 16, 32, 64), cells=24, codes=256, decoder=48, points=(96, 64, 32), plain_output=True)
"""As small, without a first volume, as in the paper."""

SIZES = {"full": replace(FULL, denoising=False), "compact": COMPACT, "views-alone": VIEWS_ALONE}
"""Of networks that begin."""
