"""Pictures that put truth, reconstructions and differences side by side (matplotlib, without a display)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..grid import Grid

_BACKGROUND, _TEXT, _FAINT = "#101418", "#f2f4f6", "#9aa4ad"
_DIFFERENCE = ("#d6f4ff", "#3aa6e0", "#1d4e79", _BACKGROUND, "#8a3b1c", "#f08a3c", "#fff0d6")
_COLUMN_INCH, _GAP_INCH, _HEAD_INCH, _FOOT_INCH = 3.0, 0.08, 0.72, 0.78
_DPI = 150


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
    look = look or Look()
    axial, coronal = (slices or {}).get("axial", grid.size[2] // 2), (slices or {}).get("coronal", grid.size[1] // 2)
    panels = [truth, *recons]
    extent = grid.extent_mm
    sheet = Sheet([extent[1] / extent[0], extent[2] / extent[0], extent[1] / extent[0]], len(panels))
    for column, panel in enumerate(panels):
        _grey(top := sheet.axes(0, column), panel.hu[axial], look)
        _grey(sheet.axes(1, column), panel.hu[::-1, coronal], look)
        write_above(top, panel.title, panel.caption)
    _legend(sheet.axes(2, 0), look, axial, coronal)
    for column, panel in enumerate(recons, start=1):
        colours = _difference(sheet.axes(2, column), panel.hu[axial] - truth.hu[axial], look)
    if recons:
        _colour_bar(sheet, colours)
    sheet.save(path)


class Sheet:
    """A figure of columns of equal width and rows of given heights (in widths of a column), laid out in inches."""

    def __init__(self, heights: list[float], columns: int):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._rows = [_COLUMN_INCH * height for height in heights]
        self.width = columns * (_COLUMN_INCH + _GAP_INCH) + _GAP_INCH
        self.height = _HEAD_INCH + sum(self._rows) + _GAP_INCH * (len(heights) - 1) + _FOOT_INCH
        self.figure = Figure(figsize=(self.width, self.height), facecolor=_BACKGROUND)
        FigureCanvasAgg(self.figure)

    def axes(self, row: int, column: int):
        top = _HEAD_INCH + sum(self._rows[:row]) + row * _GAP_INCH
        return self.place(_GAP_INCH + column * (_COLUMN_INCH + _GAP_INCH), top, _COLUMN_INCH, self._rows[row])

    def place(self, left: float, top: float, width: float, height: float):
        """Axes at a place in inches from the upper left corner."""
        bottom = self.height - top - height
        axes = self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_facecolor(_BACKGROUND)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def write_below(self, text: str) -> None:
        """Write a line at the foot."""
        self.figure.text(0.5, 0.3 * _FOOT_INCH / self.height, text, color=_FAINT, fontsize=10.5, ha="center")

    def save(self, path) -> None:
        self.figure.savefig(path, dpi=_DPI, facecolor=_BACKGROUND)


def _grey(axes, image: np.ndarray, look: Look) -> None:
    low, high = look.limits
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, aspect="auto", interpolation="lanczos")


def _difference(axes, image: np.ndarray, look: Look):
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("difference", _DIFFERENCE)
    return axes.imshow(image, cmap=colours, vmin=-look.difference_hu, vmax=look.difference_hu, aspect="auto", interpolation="nearest")


def write_above(axes, title: str, caption: str) -> None:
    """Write a title and, below it, a caption above a picture."""
    above = {"transform": axes.transAxes, "ha": "center", "va": "baseline"}
    height = axes.get_position().height * axes.figure.get_figheight()
    axes.text(0.5, 1 + 0.36 / height, title, color=_TEXT, fontsize=15, fontweight="bold", **above)
    axes.text(0.5, 1 + 0.12 / height, caption, color=_FAINT, fontsize=10.5, **above)


def _legend(axes, look: Look, axial: int, coronal: int) -> None:
    low, high = look.limits
    text = (
        f"from above: axial slice {axial},\ncoronal slice {coronal},\n"
        f"axial difference to the truth\n\n"
        f"grey: window {look.width_hu:g} HU, level {look.level_hu:g} HU\n({low:g} to {high:g} HU)\n\n"
        "research use only;\ngenerated detail may be false"
    )
    axes.text(0.04, 0.5, text, color=_FAINT, fontsize=10, va="center", linespacing=1.4, transform=axes.transAxes)


def _colour_bar(sheet: Sheet, colours) -> None:
    left = 2 * _GAP_INCH + 1.25 * _COLUMN_INCH
    place = sheet.place(left, sheet.height - _FOOT_INCH + 0.14, sheet.width - left - 0.25 * _COLUMN_INCH, 0.14)
    bar = sheet.figure.colorbar(colours, cax=place, orientation="horizontal", extend="both")
    bar.set_label("reconstruction - truth (HU)", color=_TEXT, fontsize=10.5)
    bar.ax.tick_params(colors=_FAINT, labelsize=9.5)
    bar.outline.set_edgecolor(_FAINT)
