"""The compiled kernels beside the sources, kept true: numba looks at a kernel's own file only, so a change of what it calls would go unseen."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from plugins.settings import ROOT

#: hash of the sources that the compiled kernels belong to
STAMP: Final = ".kernels"


@cache
def code_sha(root: Path = ROOT) -> str:
    """SHA-256 over the source code of the pure room: what computed a value."""
    digest = hashlib.sha256()
    for path in sorted((root / "transforms").rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def compiled(root: Path = ROOT, say: Callable[[str], None] = print) -> bool:
    """Forget kernels compiled from other sources and compile them anew, once per change of `transforms/`; returns whether that was needed.

    A tree that cannot be written to (an image) keeps its kernels elsewhere, per container, and is left alone.
    """
    stamp, now = root / "transforms" / STAMP, code_sha(root)
    if stamp.exists() and stamp.read_text() == now:
        return False
    say("compiling the kernels (after an install or a change; about half a minute)")
    try:
        for kept in [*(root / "transforms").rglob("*.nbi"), *(root / "transforms").rglob("*.nbc")]:
            kept.unlink(missing_ok=True)
        subprocess.run([sys.executable, "-m", "transforms.warm"], cwd=root, check=True)
        stamp.write_text(now)
    except PermissionError:
        say("transforms/ cannot be written to: kernels are compiled where NUMBA_CACHE_DIR points")
    return True


if __name__ == "__main__":
    compiled()
