"""What the Extensions Index asks of the files: lists that are complete, nothing heavy at file scope, one module file."""

import ast
import re
import sys
import tomllib

import cmake_lists
import pytest

ROOT = cmake_lists.ROOT
MODULE = ROOT / "SparseCTRecon"
PANEL_FILES = sorted(MODULE.rglob("*.py"))
ALLOWED = {"slicer", "vtk", "qt", "ctk", "SparseCTReconLib", "SparseCTReconPanel"} | set(sys.stdlib_module_names)


@pytest.mark.parametrize("folder", cmake_lists.FOLDERS)
def test_the_cmake_lists_name_every_file_of_the_folder(folder):
    assert cmake_lists.in_cmake(folder) == cmake_lists.in_tree(folder), "run: python Testing/Slicer/cmake_lists.py"


def test_the_wheel_and_the_extension_ship_the_same_folders_of_resources_with_files_in_each():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["data-files"]
    assert {target.rpartition("/")[2] for target in wheel} == set(cmake_lists.resource_folders())
    for target, (pattern,) in wheel.items():
        assert target == f"share/sparsectrecon/{pattern.removesuffix('/*')}" and list(ROOT.glob(pattern))


def test_the_module_file_is_the_only_python_file_beside_itself():
    assert [path.name for path in MODULE.glob("*.py")] == ["SparseCTRecon.py"]


@pytest.mark.parametrize("path", PANEL_FILES, ids=lambda path: path.name)
def test_nothing_heavy_is_imported_at_file_scope(path):
    imported = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add(node.module.partition(".")[0])
    assert imported <= ALLOWED


@pytest.mark.parametrize("path", PANEL_FILES, ids=lambda path: path.name)
def test_torch_and_pip_are_called_by_no_one_but_their_keepers(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\bimport torch\b|pip_install|import subprocess|subprocess\.", text)


def test_no_top_level_testing_package_is_shipped():
    assert not (ROOT / "Testing" / "__init__.py").exists()
    assert not (ROOT / "Testing" / "Slicer" / "__init__.py").exists()


def test_the_extension_is_described_and_what_it_points_to_is_there():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    said = dict(re.findall(r'set\(EXTENSION_(\w+) "([^"]*)"', text))
    assert said["DEPENDS"] == "PyTorch"
    assert said["CATEGORY"] == "Tomographic Reconstruction"
    for url in (said["ICONURL"], *said["SCREENSHOTURLS"].split()):
        assert (ROOT / url.partition("/main/")[2]).is_file()
    for key in ("LICENSE_FILE", "README_FILE"):
        assert (ROOT / said[key].rpartition("/")[2]).is_file()


def test_the_pictures_of_the_panel_are_in_the_readme_and_small():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = sorted((ROOT / "Resources" / "Screenshots").glob("*.png"))
    assert {path.name for path in pictures} >= {"scan.png", "method.png", "run.png", "compare.png"}
    assert all(f"Resources/Screenshots/{path.name}" in readme for path in pictures)
    assert all(path.stat().st_size < 150_000 for path in pictures if path.name != "demo.png")


def test_the_icons_have_the_size_that_slicer_asks_for():
    for path in (ROOT / "Resources" / "SparseCTRecon.png", MODULE / "Resources" / "Icons" / "SparseCTRecon.png"):
        header = path.read_bytes()[:24]
        assert header[:8] == b"\x89PNG\r\n\x1a\n"
        assert (int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")) == (128, 128)


def test_every_requirement_has_a_lower_bound_and_none_is_slicers_own():
    lines = (MODULE / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    assert requirements
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+", line) for line in requirements)
    assert not {"torch", "numpy", "simpleitk", "requests"} & {line.partition(">=")[0].lower() for line in requirements}


def test_every_widget_of_the_ui_files_is_bound_to_a_parameter_that_exists():
    text = "".join(file.read_text(encoding="utf-8") for file in (MODULE / "Resources" / "UI").glob("*.ui"))
    bound = set(re.findall(r'name="SlicerParameterName" stdset="0">\s*<string notr="true">(\w+)</string>', text))
    tree = ast.parse((MODULE / "SparseCTReconPanel" / "parameters.py").read_text(encoding="utf-8"))
    (wrapper,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    parameters = {item.target.id for item in wrapper.body if isinstance(item, ast.AnnAssign)}
    itself = {"methodPreset", "methodOptions", "device"}
    assert bound == parameters - itself, "whose choices follow the method and the machine, so that the panel sets them itself"
