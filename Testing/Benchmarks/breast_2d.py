"""The experiment of "Accelerated optimization of implicit neural representations for CT reconstruction" (section 4), in our code.

`python Testing/Benchmarks/breast_2d.py [--quick] [--iterations 1000] [--width 64] [--architectures hash siren relu] [--out FOLDER]
[--rates siren:ls=3e-4 ...]`

A breast's slice (1024 x 1024, textured, not round) is scanned in fan beam: 128 views over 360 degrees, 1024 detector pixels, Poisson noise.
Networks of three architectures are fitted to it on 256 x 256 pixels with LS, FLS and ADMM, next to FBP and to TV with its best weight. An
iteration is one A and one A', in ADMM one of conjugate gradients. The 2D projector is the 3D one with one slice and one detector row; it
is checked against the closed form of a disc. Prints Markdown; FOLDER gets MSE and residual by iteration and a picture, and keeps the fits
for the next time.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from common import noisy, relative_difference, report  # isort: skip
import numpy as np
import torch
from scipy.ndimage import fourier_gaussian, map_coordinates

from SparseCTReconLib import methods
from SparseCTReconLib.classical.admm_tv import ADMMState, admm_tv
from SparseCTReconLib.classical.fdk import fdk
from SparseCTReconLib.classical.weights import total_variation_weight
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.methods.inr import Descent, INROptions, Splitting
from SparseCTReconLib.operators import projector
from SparseCTReconLib.operators.tv import TotalVariationProx
from SparseCTReconLib.scan import Scan

FIELD_MM, DETECTOR_MM = 180.0, 380.0
FAT, GLAND, SKIN, CALCIUM = 0.0193, 0.0233, 0.0240, 0.0600
"""mu in 1/mm, about 30 keV above the fat of the literature's breast phantoms."""
LOSSES, ARCHITECTURES = ("ls", "fls", "admm"), ("hash", "siren", "relu")
RATES = {
    ("hash", "ls"): 1e-2, ("hash", "fls"): 5e-3, ("hash", "admm"): 3e-3,
    ("siren", "ls"): 5e-4, ("siren", "fls"): 5e-4, ("siren", "admm"): 3e-4,
    ("relu", "ls"): 1e-2, ("relu", "fls"): 1e-2, ("relu", "admm"): 3e-3,
}  # fmt: skip
"""Learning rates of the network at a width of 64; the hash tables' are three times as large.

Of those tried with --quick, 200 iterations (hash 0.003 to 0.1, siren 0.0001 to 0.003, relu 0.001 to 0.03), and on the full problem with 400
iterations (two of each), LS has that with its smallest residual among those that did not jump; ADMM that with the smallest MSE.
"""
RHO = {"hash": 10.0, "siren": 10.0, "relu": 3.0}
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Weights of TV that are tried, as factors on the library's."""


def breast(size: int, seed: int = 3) -> np.ndarray:
    """mu [y, x] in 1/mm on `size` pixels squared over the field: fat with texture, glands, skin, specks, bent out of the round."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1

    def texture(width):
        noise = np.fft.ifft2(fourier_gaussian(np.fft.fft2(rng.standard_normal((size, size))), width * size)).real
        return noise / noise.std()

    radius = np.hypot(x, y) / 0.78
    glands = texture(0.02) + 0.6 * texture(0.006) + 1.6 - 3.2 * np.hypot(x + 0.12, y - 0.05) / 0.6 > 0
    mu = np.where(glands, GLAND + 0.0004 * texture(0.008), FAT + 0.0003 * texture(0.012))
    mu = np.where(radius > 0.975, SKIN, mu)
    for _ in range(12):
        speck = np.hypot(x - rng.uniform(-0.3, 0.2), y - rng.uniform(-0.25, 0.3)) < rng.uniform(0.004, 0.010)
        mu = np.where(speck, CALCIUM, mu)
    mu = np.where(radius < 1, mu, 0.0)
    bent = [axis * size + 0.035 * size * texture(0.22) for axis in ((y + 1) / 2, (x + 1) / 2)]
    return map_coordinates(mu, np.array(bent) - 0.5, order=1).astype(np.float32)


def binned(image: np.ndarray, size: int) -> np.ndarray:
    """Means over blocks of pixels."""
    k = image.shape[0] // size
    return image.reshape(size, k, size, k).mean(axis=(1, 3))


def slice_grid(size: int) -> Grid:
    """`size` pixels squared over the field, one slice."""
    return Grid.centred((size, size, 1), (FIELD_MM / size,) * 3)


def operator(geometry: Geometry, size: int):
    """The 2D operator; the general kernel, since the columnar one is made for many slices."""
    return projector(geometry, slice_grid(size), backend="general")


def disc_error(geometry: Geometry, size: int) -> float:
    """Relative error of the projections of a smooth spot and of a disc's edge, against their line integrals' closed form."""
    radius, centre = 40.0, np.array([21.0, -13.0, 0.0])
    ticks = (np.arange(8 * size) - (8 * size - 1) / 2) * FIELD_MM / (8 * size)
    image = 0.02 * binned((np.hypot(ticks - centre[0], ticks[:, None] - centre[1]) < radius).astype(np.float32), size)
    columns = (np.arange(geometry.detector_shape[1]) - (geometry.detector_shape[1] - 1) / 2) * geometry.pixel_mm[1]
    ray = (geometry.detector - geometry.source)[:, None] + columns[None, :, None] * geometry.u[:, None]
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    towards = centre - geometry.source
    distance2 = np.sum(towards**2, axis=1)[:, None] - np.einsum("vud,vd->vu", ray, towards) ** 2
    exact = 0.04 * np.sqrt(np.maximum(radius**2 - distance2, 0))
    A = operator(geometry, size)
    return relative_difference(A(A.volume(image[None])).numpy()[:, 0], exact)


@dataclass
class Experiment:
    """The scan, the truth and the operator on the grid of the reconstruction."""

    scan: Scan
    truth: np.ndarray
    A: object

    @classmethod
    def made(cls, size: int, views: int, pixels: int, photons: float):
        geometry = Geometry.circular(views, 500.0, 1000.0, (1, pixels), (DETECTOR_MM / pixels,) * 2)
        phantom = breast(1024)
        fine = operator(geometry, 1024)
        measured = noisy(fine(fine.volume(phantom[None])).numpy(), photons)
        return cls(Scan(measured, geometry), binned(phantom, size), operator(geometry, size))

    @property
    def grid(self) -> Grid:
        return self.A.grid

    def mse(self, x: torch.Tensor) -> float:
        """Mean squared error in units of fat's attenuation."""
        return float(np.mean(((x.numpy()[0] - self.truth) / FAT) ** 2))

    def residual(self, x: torch.Tensor) -> float:
        """|A x - y| / |y|."""
        return relative_difference(self.A(x).numpy(), self.scan.projections)


def watched(raster):
    """`raster`, which remembers in `last` what its `volume` gave."""
    volume = raster.volume

    def watching(**choices):
        raster.last = volume(**choices)
        return raster.last

    raster.volume = watching
    return raster


def fitted(experiment: Experiment, options: INROptions) -> tuple[list[tuple[int, float, float]], torch.Tensor]:
    """(iterations, MSE, residual) as the fit goes on, and the last volume."""
    admm = options.loss == "admm"
    training = (Splitting if admm else Descent)(experiment.scan, experiment.grid, options, A=experiment.A)
    raster, curve = watched(training.raster), []
    for metrics in islice(training.updates(), training.steps):
        if not admm:
            curve.append((training.done - 1, experiment.mse(raster.last), metrics["residual"]))
        elif training.done % (training.cg + training.fit) == 0:
            outer = training.done // (training.cg + training.fit)
            curve.append((outer * training.cg, experiment.mse(raster.last), experiment.residual(raster.last)))
    x = raster.volume()
    return [*curve, (options.iterations, experiment.mse(x), experiment.residual(x))], x


def kept(folder: Path | None, experiment: Experiment, options: INROptions) -> tuple[list, torch.Tensor, float]:
    """What `fitted` gives and its CPU seconds, from `folder` if the same has been done before."""
    told = json.dumps([options.model_dump(), experiment.grid.size, experiment.A.projection_shape, experiment.scan.content_hash()])
    file = folder and folder / f"{options.architecture}-{options.loss}.npz"
    if file and file.exists() and str((done := np.load(file))["told"]) == told:
        return [(int(n), mse, residual) for n, mse, residual in done["curve"]], torch.from_numpy(done["x"]), float(done["seconds"])
    start = time.process_time()
    curve, x = fitted(experiment, options)
    seconds = time.process_time() - start
    if file:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(file, curve=np.array(curve), x=x.numpy(), seconds=seconds, told=told)
    return curve, x, seconds


def options_of(architecture: str, loss: str, chosen) -> INROptions:
    """The paper's settings with what the command line changes."""
    rate = chosen.rates.get((architecture, loss), RATES[architecture, loss])
    values = {"preset": "paper-admm" if loss == "admm" else "paper", "architecture": architecture, "loss": loss}
    values |= {"iterations": chosen.iterations, "network_rate": rate, "width": chosen.width, "seed": chosen.seed}
    if architecture == "hash":
        values |= {"encoder_rate": 3 * rate, "width": chosen.width // 2}
    if loss == "admm":
        values |= {"rho": chosen.rho or RHO[architecture], "cg_iterations": chosen.cg, "fit_iterations": chosen.fit}
    else:
        values |= {"views_per_subset": 10_000}
    return methods.parse_options(methods.get("inr"), values)


def fbp(experiment: Experiment) -> torch.Tensor:
    """Filtered back-projection with the plain ramp."""
    return fdk(experiment.A.projections(experiment.scan.projections), experiment.scan.geometry, experiment.grid, "ram-lak")


def total_variation(experiment: Experiment, passes: int) -> tuple[float, torch.Tensor]:
    """The strength with the smallest MSE, and its reconstruction."""
    A, y = experiment.A, experiment.A.projections(experiment.scan.projections)
    best = None
    for strength in STRENGTHS:
        prox = TotalVariationProx(A.volume_shape, 10)
        start = ADMMState(A.zeros(), None, None, 0, 8)
        *_, state = islice(admm_tv(A, y, torch.ones_like(y), strength * total_variation_weight(A), prox, start), passes)
        if best is None or experiment.mse(state.x) < experiment.mse(best[1]):
            best = strength, state.x
    return best


def first_at(curve, level: float, column: int) -> int | None:
    """Iterations after which MSE (column 1) or residual (column 2) is no larger than `level`."""
    return next((point[0] for point in curve if point[column] <= level), None)


def row_of(architecture: str, loss: str, options, curve, seconds: float) -> list:
    """Of the first table: settings, MSE at the milestones and at its smallest, residual at the end."""
    at = [next(f"{mse:.2e}" for done, mse, _ in curve if done >= n) for n in milestones(curve[-1][0])]
    done, smallest, _ = min(curve, key=lambda point: point[1])
    rho = f"{options.rho:g}" if options.rho else ""
    return [architecture, loss, f"{options.network_rate:g}", rho, *at, f"{smallest:.2e} at {done}", f"{curve[-1][2]:.4f}", f"{seconds:.0f}"]


def milestones(last: int) -> list[int]:
    """Iterations at which the table gives the MSE."""
    return sorted({max(1, round(last * share)) for share in (0.05, 0.1, 0.25, 0.5, 1.0)})


def acceleration(curves: dict, architectures: list[str]) -> list[list]:
    """Iterations of FLS and ADMM to the residual and to the MSE of LS at a quarter, half and the end of its iterations."""
    rows = []
    for name in architectures:
        ls = curves[name, "ls"]
        for share in (0.25, 0.5, 1.0):
            done, mse, residual = ls[round(share * (len(ls) - 1))]
            shown = []
            for column, level in ((2, residual), (1, mse)):
                firsts = [first_at(curves[name, loss], level, column) for loss in ("fls", "admm")]
                shown += [f"{level:.3g}", *("-" if n is None else f"{n} ({n / done:.2f})" for n in firsts)]
            rows.append([name, done, *shown])
    return rows


def condition_ratio(experiment: Experiment, options: INROptions) -> float:
    """Condition of B'B over that of B'MB: B the projections of the last layer's features at the start, M the metric of FLS (table 1)."""
    training = Descent(experiment.scan, experiment.grid, options, A=experiment.A)
    width, field = options.chosen("width"), training.field
    parameters = torch.from_numpy(field.parameters) if options.architecture == "hash" else field.module.weights.data
    last = parameters[-width - 1 :]
    columns = []
    for neuron in range(width):
        last.zero_()
        last[neuron] = 1
        columns.append(experiment.A(training.raster.volume() / field.scale))
    columns = [column for column in columns if float(column.norm()) > 0]
    flat = torch.stack([column.reshape(-1) for column in columns]).double()
    filtered = torch.stack([training.term.parts[0][2](column).reshape(-1) for column in columns]).double()
    return float(torch.linalg.cond(flat @ flat.T) / torch.linalg.cond(flat @ filtered.T))


def statements(curves: dict, tv: float, conditions: dict, architectures: list[str]) -> list[list]:
    """What the paper says, and whether it is so here, by architecture."""
    final = {key: curve[-1][1] for key, curve in curves.items()}
    rows = []

    def row(said, holds):
        rows.append([said, *(holds(name) for name in architectures)])

    def faster(name):
        level = max(final[name, "ls"], 1.1 * min(final[name, "fls"], final[name, "admm"]))
        firsts = {loss: first_at(curves[name, loss], level, 1) for loss in LOSSES}
        return ", ".join(f"{loss} {n}" for loss, n in sorted(firsts.items(), key=lambda item: item[1] or 10**9) if n)

    row("LS ends with the largest MSE", lambda n: yes(final[n, "ls"] > max(final[n, "fls"], final[n, "admm"])))
    row("FLS ends no worse than TV", lambda n: yes(final[n, "fls"] <= 1.05 * tv) + f" ({final[n, 'fls'] / tv:.2f} of TV's)")
    row("ADMM ends no worse than TV", lambda n: yes(final[n, "admm"] <= 1.05 * tv) + f" ({final[n, 'admm'] / tv:.2f} of TV's)")
    row("ADMM ends with the smallest MSE", lambda n: yes(final[n, "admm"] == min(final[n, loss] for loss in LOSSES)))
    row("FLS is faster than ADMM (paper: not with hash); iterations to LS's last MSE", faster)
    row("FLS's condition number is 10 to 1000 times smaller", lambda n: f"{conditions[n]:.3g} times")
    row("FLS needs a quarter of LS's iterations to LS's last residual, or fewer", lambda n: quarter(curves, n))
    return rows


def yes(true: bool) -> str:
    return "yes" if true else "no"


def quarter(curves: dict, name: str) -> str:
    done, _, residual = curves[name, "ls"][-1]
    n = first_at(curves[name, "fls"], residual, 2)
    return "no" if n is None else f"{yes(n <= done / 4)} ({n} of {done}: {n / done:.2f})"


def draw(path: Path, experiment: Experiment, pictures: dict, curves: dict, tv: float) -> None:
    """The reconstructions, and MSE and residual by iteration."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(4, 4, figsize=(16, 16), layout="constrained")
    for axis, (title, picture) in zip(axes.flat, pictures.items()):
        axis.imshow(picture / FAT, cmap="gray", vmin=0.85, vmax=1.35)
        axis.set(title=f"{title}: {np.mean(((picture - experiment.truth) / FAT) ** 2):.2e}", xticks=[], yticks=[])
    for axis in axes.flat[len(pictures) :]:
        axis.axis("off")
    for axis, column, label in ((axes[3, 2], 1, "MSE"), (axes[3, 3], 2, "residual")):
        axis.axis("on")
        for (name, loss), curve in curves.items():
            style, colour = {"ls": ":", "fls": "-", "admm": "--"}[loss], f"C{ARCHITECTURES.index(name)}"
            axis.loglog([max(p[0], 1) for p in curve], [p[column] for p in curve], style, color=colour, label=f"{name}, {loss}")
        axis.set(xlabel="iterations", title=label)
    axes[3, 2].axhline(tv, color="k", lw=0.5)
    axes[3, 3].legend(fontsize=7)
    figure.savefig(path, dpi=90)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="128 pixels, 64 views, 256 detector pixels, width 64, 200 iterations")
    parser.add_argument("--width", type=int, help="of siren and relu, the paper has 256; the hash grid's network has half of it")
    for name in ("size", "views", "pixels", "iterations"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--cg", type=int, default=50)
    parser.add_argument("--fit", type=int, default=50)
    parser.add_argument("--photons", type=float, default=1e5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rho", type=float)
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES), choices=ARCHITECTURES)
    parser.add_argument("--rates", nargs="*", default=[], help="architecture:loss=rate")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    usual = {"size": 128, "views": 64, "pixels": 256, "width": 64, "iterations": 200} if chosen.quick else {}
    for name, value in ({"size": 256, "views": 128, "pixels": 1024, "width": 64, "iterations": 1000} | usual).items():
        setattr(chosen, name, getattr(chosen, name) or value)
    chosen.rates = {tuple(key.split(":")): float(rate) for key, rate in (text.split("=") for text in chosen.rates)}
    return chosen


def main():
    chosen = arguments()
    experiment = Experiment.made(chosen.size, chosen.views, chosen.pixels, chosen.photons)
    tv_strength, tv = total_variation(experiment, 100)
    pictures = {"truth": experiment.truth, "FBP": fbp(experiment).numpy()[0], "TV": tv.numpy()[0]}
    curves, conditions, rows = {}, {}, []
    for name in chosen.architectures:
        conditions[name] = condition_ratio(experiment, options_of(name, "fls", chosen))
        for loss in LOSSES:
            options = options_of(name, loss, chosen)
            curves[name, loss], x, seconds = kept(chosen.out, experiment, options)
            rows.append(row_of(name, loss, options, curves[name, loss], seconds))
            pictures[f"{name}, {loss}"] = x.numpy()[0]
            print("done:", *rows[-1], file=sys.stderr, flush=True)
    heads = [
        "architecture",
        "loss",
        "rate",
        "rho",
        *(f"MSE at {n}" for n in milestones(chosen.iterations)),
        "smallest",
        "residual",
        "CPU s",
    ]
    baselines = [f"{title}: MSE {np.mean(((pictures[title] - experiment.truth) / FAT) ** 2):.2e}." for title in ("FBP", "TV")]
    setting = f"{chosen.size}^2, {chosen.views} views, {chosen.pixels} pixels, {chosen.photons:g} photons, width {chosen.width}"
    disc = f"Projections of a disc against their closed form: {disc_error(experiment.scan.geometry, chosen.size):.1e}."
    report(f"Breast in 2D: {setting}", heads, rows, [*baselines, f"TV's strength: {tv_strength:g}.", disc])
    heads = ["architecture", "LS iterations", "its residual", "FLS", "ADMM", "its MSE", "FLS", "ADMM"]
    report("Iterations to what LS has reached", heads, acceleration(curves, chosen.architectures))
    tv_mse = experiment.mse(tv)
    heads = ["statement", *chosen.architectures]
    report("What the paper says", heads, statements(curves, tv_mse, conditions, chosen.architectures))
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        draw(chosen.out / "breast_2d.png", experiment, pictures, curves, tv_mse)
        lines = ["architecture,loss,iterations,mse,residual"]
        lines += [f"{name},{loss},{n},{mse:.6g},{r:.6g}" for (name, loss), curve in curves.items() for n, mse, r in curve]
        (chosen.out / "breast_2d.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
