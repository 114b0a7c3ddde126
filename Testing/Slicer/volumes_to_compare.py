"""A reference and results for comparisons: a body with a bright marker, and what is wrong with the results."""

import numpy as np

SHAPE = (12, 14, 16)


def body() -> np.ndarray:
    """A CT in HU [z, y, x]: air, soft tissue, a marker of bone."""
    z, y, x = np.mgrid[tuple(slice(n) for n in SHAPE)]
    inside = ((z - 5.5) / 5) ** 2 + ((y - 6.5) / 6) ** 2 + ((x - 7.5) / 7) ** 2 < 1
    hu = np.where(inside, 40, -1000).astype(np.int16)
    hu[5:7, 3:5, 9:12] = 1000
    return hu


def add_volume(slicer, name: str, voxels: np.ndarray, spacing=(2.0, 2.0, 2.0), origin=(10.0, -20.0, 30.0), attributes=()):
    """A volume node at a given place (RAS) with its voxels along the axes of the patient."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, voxels)
    node.SetSpacing(*spacing)
    node.SetOrigin(*origin)
    node.CreateDefaultDisplayNodes()
    for key, value in dict(attributes).items():
        node.SetAttribute(key, value)
    return node


def reference_and_results(slicer, count: int = 2):
    """The CT, and `count` results of this module that are 10, 20, ... HU too high."""
    reference = add_volume(slicer, "CT", body())
    results = [
        add_volume(slicer, f"Result {n}", body().astype(np.float32) + 10 * n, attributes={"SparseCTRecon.method": "fdk"})
        for n in range(1, count + 1)
    ]
    return reference, results
