"""The house's floors: a room imports only from floors below, and heavy libraries come only when they are asked for."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import SparseCTReconLib

ROOT = Path(SparseCTReconLib.__file__).parent
FLOORS = [
    {"errors", "units", "geometry", "grid", "machine", "resources", "weight_files"},
    {"scan", "weights", "downloads"},
    {"formats", "operators"},
    {"simulate", "classical", "corrections", "fields", "gaussians", "networks"},
    {"methods"},
    {"evaluation", "evidence", "training"},
    {"jobs", "installation"},
    {"commands", "cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS, start=1) for room in rooms}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
BARE = {"torch", "numpy", "scipy", "numba", "llvmlite", "pydantic", "safetensors"}
GROUND = {"cli": {"tyro", "rich"}, "commands": {"rich", "tyro"}}
ASKED_FOR = {
    ROOT / "fields" / "triton_hash.py": {"triton"},
    ROOT / "gaussians" / "triton_rasteriser.py": {"triton"},
    ROOT / "gaussians" / "triton_voxeliser.py": {"triton"},
}
"""Files that no other imports but where their library is wanted."""


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path, everywhere=True):
    """Modules that `path` imports, absolute names; `everywhere` includes those inside functions."""
    package = ["SparseCTReconLib", *path.relative_to(ROOT).parts[:-1]]
    for node in _statements(ast.parse(path.read_text(encoding="utf-8")), everywhere):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _statements(tree, everywhere):
    """Nodes of `tree`; without function bodies and blocks for type checkers unless `everywhere`."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        lazy = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if everywhere or not (lazy or typing_only):
            waiting.extend(ast.iter_child_nodes(node))


def own(module):
    """The room of an absolute module name of this library, or None."""
    parts = module.split(".")
    if parts[0] != "SparseCTReconLib" or len(parts) < 2:
        return None
    if parts[1] in FLOOR:
        return parts[1]
    home = SparseCTReconLib._HOMES.get(parts[1])
    return home.split(".")[0] if home else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_from_its_own_floor_and_those_below(path):
    room = room_of(path)
    assert room in FLOOR, f"{room} is on no floor: give it one"
    above = {target for target in map(own, imports(path)) if target and target != room and FLOOR[target] > FLOOR[room]}
    assert not above, f"{room} (floor {FLOOR[room]}) imports {above} from above"


def test_neighbours_on_a_floor_do_not_import_each_other_in_a_circle():
    edges = {(room_of(path), target) for path in FILES for target in map(own, imports(path)) if target and target != room_of(path)}
    rooms = sorted(FLOOR)
    while True:
        free = [room for room in rooms if not any(a == room and b in rooms for a, b in edges)]
        if not free:
            break
        rooms = [room for room in rooms if room not in free]
    assert not rooms, f"a circle among {rooms}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_at_import_a_file_needs_only_the_libraries_of_a_bare_gpu_machine(path):
    foreign = {module.split(".")[0] for module in imports(path, everywhere=False)}
    foreign -= set(sys.stdlib_module_names) | {"SparseCTReconLib"} | BARE | GROUND.get(room_of(path), set())
    assert foreign == ASKED_FOR.get(path, set())


def test_a_file_with_a_library_of_its_own_is_imported_by_no_other_at_import():
    for path in ASKED_FOR:
        module = ".".join(["SparseCTReconLib", *path.relative_to(ROOT).with_suffix("").parts])
        others = set(FILES) - ASKED_FOR.keys()
        assert not [other for other in others if module in set(imports(other, everywhere=False))]


def loaded_by(code):
    """Top-level modules that a fresh interpreter has after `code`, and the seconds `code` took."""
    program = f"import sys, time, json; t = time.perf_counter()\n{code}\nt = time.perf_counter() - t\n"
    program += "print(json.dumps([t, sorted({name.split('.')[0] for name in sys.modules})]))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT.parent).stdout
    seconds, modules = json.loads(said)
    return seconds, set(modules)


def test_the_library_is_imported_with_nothing_but_numpy():
    seconds, modules = loaded_by("import SparseCTReconLib")
    print(f"import SparseCTReconLib: {seconds:.3f} s")
    assert not modules & {"torch", "SimpleITK", "vtk", "numba", "scipy", "pydantic", "safetensors", "matplotlib", "tyro", "rich"}


def test_geometry_grids_and_scans_need_nothing_but_numpy():
    _, modules = loaded_by("from SparseCTReconLib import Geometry, Grid, Scan, Volume, default_grid")
    assert not modules & {"torch", "SimpleITK", "vtk", "numba", "scipy", "pydantic"}


def test_the_parents_side_of_a_job_needs_nothing_heavy():
    _, modules = loaded_by("import SparseCTReconLib.jobs.client, SparseCTReconLib.jobs.worker")
    assert not modules & {"torch", "SimpleITK", "vtk", "numba", "scipy", "pydantic", "numpy"}


def test_floors_one_to_five_run_without_simpleitk_and_vtk():
    code = "import sys; sys.modules['SimpleITK'] = sys.modules['vtk'] = None\nfrom SparseCTReconLib import methods, reconstruct\n"
    code += "[methods.get(name) for name in methods.names()]"
    _, modules = loaded_by(code)
    assert "torch" in modules


def test_every_export_is_there_and_a_typo_is_an_attribute_error():
    for name in SparseCTReconLib.__all__:
        assert getattr(SparseCTReconLib, name) is not None
    with pytest.raises(AttributeError, match="reconstrct"):
        SparseCTReconLib.reconstrct  # noqa: B018


def test_simulate_stays_a_function_after_its_module_was_imported():
    import SparseCTReconLib.simulate  # noqa: F401

    assert callable(SparseCTReconLib.simulate)
