"""What the methods say of themselves, as a file that can be read without them: `python Testing/Library/method_catalogue.py` brings it up
to date."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "SparseCTReconLib" / "methods" / "methods.json"


def described() -> str:
    """The text that the file should have."""
    from SparseCTReconLib.commands.listing import describe_all

    return json.dumps(describe_all(), indent=1) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    FILE.write_text(described(), encoding="ascii")
