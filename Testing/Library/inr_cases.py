"""Small networks and losses of `inr` for tests."""

import numpy as np

from SparseCTReconLib import methods

HASH = {"levels": 4, "width": 16, "log2_table": 14}
NETWORKS = {
    "hash": HASH,
    "siren": {"width": 16, "depth": 2, "omega": 10.0, "network_rate": 3e-3},
    "relu": {"width": 16, "depth": 2, "frequencies": 3, "bandwidth": 4.0, "network_rate": 1e-2},
}
LOSSES = {
    "ls": {"views_per_subset": 3},
    "fls": {"views_per_subset": 3},
    "admm": {"rho": 0.3, "cg_iterations": 2, "fit_iterations": 3},
}


def options(loss="admm", architecture="hash", **values):
    return methods.parse_options(
        methods.get("inr"), {"architecture": architecture, "loss": loss, **NETWORKS[architecture], **LOSSES[loss], **values}
    )


def relative(a, b):
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return np.linalg.norm(a - b) / np.linalg.norm(b)
