"""The Gaussians' Triton kernels compiled for GPUs that are not here; what they compute is tested with the other backends."""

import json
import os
import subprocess
import sys

import pytest

COMPILE = """
import json
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from SparseCTReconLib.gaussians import triton_rasteriser as R, triton_voxeliser as V

doubles, numbers = {"ray", "spacing"}, {"boxes", "listed", "ends"}
floats = {"centres", "whitening", "density", "table", "image", "volume", "gradient", "to_centres", "to_whitening", "to_density"}
pointers = {name: kind for kind, names in (("*fp64", doubles), ("*i32", numbers), ("*fp32", floats)) for name in names}
forward = {"TILE": R.TILE, "AT_ONCE": R.AT_ONCE}, {"TILE": V.TILE, "AT_ONCE": V.AT_ONCE}
kernels = [
    (R._see, {"NEAREST": R.NEAREST, "BLOCK": R.TABLED}, 4),
    (R._project, forward[0], R.FORWARD_WARPS),
    (R._project_back, {"OWNED": R.OWNED, "PIXELS": R.PIXELS}, R.BACKWARD_WARPS),
    (V._bound, {"BLOCK": V.TABLED}, 4),
    (V._fill, forward[1], V.FORWARD_WARPS),
    (V._fill_back, {"OWNED": V.OWNED, "VOXELS": V.VOXELS}, V.BACKWARD_WARPS),
]
made = {}
for kernel, constants, warps in kernels:
    constants["REACH"] = R.REACH
    kinds = {name: pointers.get(name, "constexpr" if name in constants else "i32") for name in kernel.arg_names}
    aligned = {(n,): [["tt.divisibility", 16]] for n, name in enumerate(kernel.arg_names) if name in pointers}
    source = ASTSource(kernel, kinds, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32), options={"num_warps": warps})
    ptx = compiled.asm["ptx"]
    made[kernel.__name__] = [compiled.metadata.shared, *(ptx.count(word) for word in ("atom.", "bar.sync", "shfl"))]
print(json.dumps(made))
"""


@pytest.mark.slow
@pytest.mark.parametrize("capability", [75, 90])
def test_kernels_compile_without_atomics_and_exchange_sums_alone(capability, tmp_path):
    """Nor shared memory: what a program adds up, it adds up in its registers."""
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", COMPILE, str(capability)], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    made = json.loads(result.stdout)
    assert len(made) == 6
    for name, (shared, atomics, barriers, exchanges) in made.items():
        assert shared == atomics == barriers == 0 and (exchanges > 0) == name.endswith("_back"), name
