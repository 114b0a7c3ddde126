"""Pictures that put truth, reconstructions and differences side by side (matplotlib, without a display)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..grid import Grid

_BACKGROUND, _TEXT, _FAINT = "#101418", "#f2f4f6", "#9aa4ad"
_COLUMN_INCH, _DPI = 3.0, 150


@dataclass(frozen=True)
class Look:
    """How grey values are shown: window width and level in HU, and the HU at both ends of the difference's colours."""

    width_hu: float = 400.0
    level_hu: float = 40.0
    difference_hu: float = 300.0

    @property
    def limits(self) -> tuple[float, float]:
        return self.level_hu - self.width_hu / 2, self.level_hu + self.width_hu / 2


@dataclass(frozen=True)
class Panel:
    """A volume in HU [z, y, x] with its title and, below, its figures."""

    title: str
    hu: np.ndarray
    caption: str = ""


def comparison(
    truth: Panel, recons: list[Panel], grid: Grid, path, look: Look | None = None, slices: Mapping[str, int] | None = None
) -> None:
    """Draw axial slices, coronal slices and axial differences, a column for the truth and each reconstruction.

    Parameters
    ----------
    truth : Panel
        The reference on `grid`.
    recons : list of Panel
        Reconstructions on the same grid.
    grid : Grid
        Its spacing gives the pictures their proportions.
    path : str or Path
        PNG to write.
    look : Look, optional
        Window and colours.
    slices : mapping, optional
        "axial" (index along z) and "coronal" (along y); the middle by default.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    look = look or Look()
    axial, coronal = (slices or {}).get("axial", grid.size[2] // 2), (slices or {}).get("coronal", grid.size[1] // 2)
    panels = [truth, *recons]
    dx, dy, dz = grid.spacing_mm
    heights = [grid.size[1] * dy, grid.size[2] * dz, grid.size[1] * dy]
    width = grid.size[0] * dx
    row_inches = [_COLUMN_INCH * height / width for height in heights]
    size = (_COLUMN_INCH * len(panels) + 0.5, sum(row_inches) + 1.5)
    figure = Figure(figsize=size, facecolor=_BACKGROUND, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.01)
    axes = figure.subplots(3, len(panels), squeeze=False, height_ratios=heights)
    for column, panel in enumerate(panels):
        _grey(axes[0, column], panel.hu[axial], dy / dx, look)
        _grey(axes[1, column], panel.hu[::-1, coronal], dz / dx, look)
        _title(axes[0, column], panel)
    colours = None
    for column, panel in enumerate(recons, start=1):
        colours = _difference(axes[2, column], panel.hu[axial] - truth.hu[axial], dy / dx, look)
    _legend(axes[2, 0], look, axial, coronal)
    if colours is not None:
        _colour_bar(figure, colours, axes[2, 1:])
    figure.savefig(path, dpi=_DPI, facecolor=_BACKGROUND)


def _bare(axis) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_facecolor(_BACKGROUND)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _grey(axis, image: np.ndarray, aspect: float, look: Look) -> None:
    low, high = look.limits
    axis.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="lanczos")
    _bare(axis)


def _difference(axis, image: np.ndarray, aspect: float, look: Look):
    shown = axis.imshow(image, cmap="RdBu_r", vmin=-look.difference_hu, vmax=look.difference_hu, aspect=aspect, interpolation="nearest")
    _bare(axis)
    return shown


def _title(axis, panel: Panel) -> None:
    axis.set_title(panel.title, color=_TEXT, fontsize=14, fontweight="bold", pad=22 if panel.caption else 8)
    if panel.caption:
        axis.text(0.5, 1.03, panel.caption, color=_FAINT, fontsize=10, ha="center", va="bottom", transform=axis.transAxes)


def _legend(axis, look: Look, axial: int, coronal: int) -> None:
    _bare(axis)
    text = (
        f"rows: axial slice {axial}, coronal slice {coronal},\n"
        f"difference to the truth (axial)\n\n"
        f"window {look.width_hu:g} HU, level {look.level_hu:g} HU\n"
        f"difference ± {look.difference_hu:g} HU\n\n"
        "research use only;\ngenerated detail may be false"
    )
    axis.text(0.04, 0.5, text, color=_FAINT, fontsize=9.5, va="center", linespacing=1.4, transform=axis.transAxes)


def _colour_bar(figure, colours, axes) -> None:
    bar = figure.colorbar(colours, ax=list(axes), location="bottom", shrink=0.6, aspect=40, pad=0.02, extend="both")
    bar.set_label("reconstruction - truth (HU)", color=_TEXT, fontsize=10)
    bar.ax.tick_params(colors=_FAINT, labelsize=9)
    bar.outline.set_edgecolor(_FAINT)
