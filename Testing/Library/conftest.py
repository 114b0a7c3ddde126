"""Fixtures that several test files use."""

import pytest


@pytest.fixture(scope="session")
def rtk():
    """itk-rtk's module; its import takes seconds, so it comes once and only where a test asks for it."""
    try:
        from itk import RTK
    except ImportError:
        pytest.skip("itk-rtk is not installed: pip install itk-rtk")
    RTK.ThreeDCircularProjectionGeometry.New()
    return RTK
