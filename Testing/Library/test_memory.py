"""The memory that methods take, as it can be asked for without importing them."""

import subprocess
import sys

import pytest

from SparseCTReconLib import methods
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.methods.memory import fitting_size, method_bytes


def test_the_memory_of_a_method_is_known_without_torch_numba_or_pydantic():
    program = (
        "import sys\nfrom SparseCTReconLib.grid import Grid\nfrom SparseCTReconLib.methods.memory import method_bytes\n"
        "grid = Grid.centred((64, 64, 64), (1, 1, 1))\n"
        "options = dict(rays=2048, sample_spacing=2.0, start='nothing', restoration='shipped', averaging=False)\n"
        "options |= dict(levels=8, log2_table=22, finest=0)\n"
        "assert method_bytes('naf', grid, 1000, options) > method_bytes('fdk', grid, 1000, {}) > 1e7\n"
        "print({'torch', 'numba', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("options", [{}, {"preset": "paper"}, {"levels": 4}])
def test_options_that_are_left_out_count_as_what_stands_for_them(options):
    inr, grid = methods.get("inr"), Grid.centred((60, 50, 40), (1, 1, 1))
    parsed = methods.parse_options(inr, options)
    said = parsed.model_copy(update={name: parsed.chosen(name) for name in ("levels", "log2_table")})
    assert method_bytes("inr", grid, 0, parsed.model_dump()) == method_bytes("inr", grid, 0, said.model_dump())


def test_the_largest_grid_that_fits_is_over_the_same_box():
    grid = Grid.centred((400, 300, 200), (1, 1, 1))
    size = fitting_size(grid, lambda one: method_bytes("fdk", one, 0, {}), 40 * 200 * 150 * 100)
    assert size == pytest.approx((200, 150, 100), abs=1)
    assert fitting_size(grid, lambda one: 10, 5) is None


@pytest.mark.parametrize("name, backbone", [("diffnr-naf", "naf"), ("diffnr-gaussian", "r2-gaussian")])
def test_diffnr_takes_what_its_backbone_takes_and_something_for_the_repair(name, backbone):
    method, grid = methods.get(name), Grid.centred((64, 64, 64), (1, 1, 1))
    for preset in method.presets:
        options = methods.parse_options(method, {"preset": preset})
        more = method_bytes(name, grid, 0, options.model_dump()) - method_bytes(backbone, grid, 0, method.backbone(options).model_dump())
        assert 0.25e9 < more < 0.3e9
    finer = options.model_copy(update={"finer": 2})
    assert method_bytes(name, grid, 0, finer.model_dump()) > method_bytes(name, grid, 0, options.model_dump())
