"""The file lists in the CMakeLists.txt of the module and the library: `python Testing/Slicer/cmake_lists.py` brings them up to date."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("SparseCTRecon", "SparseCTReconLib")


def in_tree(folder: str) -> dict[str, list[str]]:
    """Files of `folder` by the CMake list that they belong to."""
    top = ROOT / folder
    files = sorted(path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file() and _ships(path.relative_to(top)))
    scripts = [name for name in files if name.endswith(".py")]
    return {"MODULE_PYTHON_SCRIPTS": scripts, "MODULE_PYTHON_RESOURCES": [name for name in files if name not in scripts]}


def in_cmake(folder: str) -> dict[str, list[str]]:
    """Files that the CMakeLists.txt of `folder` names, by list."""
    text = (ROOT / folder / "CMakeLists.txt").read_text(encoding="utf-8")
    return {name: _list(name).search(text).group(1).split() for name in ("MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES")}


def refresh(folder: str) -> None:
    """Write the lists of `folder` anew."""
    file = ROOT / folder / "CMakeLists.txt"
    text = file.read_text(encoding="utf-8")
    for name, files in in_tree(folder).items():
        lines = "".join(f"  {one}\n" for one in files)
        text = _list(name).sub(f"set({name}\n{lines}  )", text)
    file.write_text(text, encoding="utf-8")


def resource_folders() -> list[str]:
    """Folders of Resources that the CMakeLists.txt of the root puts beside the modules."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.search(r"set\(RESOURCE_FOLDERS ([\w ]+)\)", text).group(1).split()


def _list(name: str) -> re.Pattern:
    return re.compile(rf"set\({name}\n(.*?)  \)", re.DOTALL)


def _ships(path: Path) -> bool:
    return (
        path.name != "CMakeLists.txt"
        and "__pycache__" not in path.parts
        and not path.name.startswith(".")
        and path.suffix not in (".nbi", ".nbc")
    )


if __name__ == "__main__":
    for one in FOLDERS:
        refresh(one)
