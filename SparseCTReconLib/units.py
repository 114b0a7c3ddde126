"""Hounsfield units and linear attenuation coefficients.

``mu = mu_water * (1 + HU / 1000)``, mu in 1/mm. Both directions take numbers, numpy arrays and torch tensors.
"""

from __future__ import annotations

MU_WATER = 0.02
"""Linear attenuation coefficient of water in 1/mm, about that at an effective energy of 70 keV."""

AIR_HU = -1000.0


def hu_to_mu(hu, mu_water: float = MU_WATER):
    """Attenuation in 1/mm of `hu`; below air (-1000 HU) it is 0, since nothing attenuates less than nothing."""
    mu = (hu + 1000.0) * (mu_water / 1000.0)
    return mu.clip(0) if hasattr(mu, "clip") else max(mu, 0.0)


def mu_to_hu(mu, mu_water: float = MU_WATER):
    """Hounsfield units of an attenuation in 1/mm."""
    return mu * (1000.0 / mu_water) - 1000.0
