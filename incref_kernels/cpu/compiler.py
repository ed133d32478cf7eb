"""Whether this machine can compile."""

import os
import shutil

__all__ = ["why_unavailable"]


def why_unavailable() -> str | None:
    """Say why nothing can be compiled for the processor, or None: Inductor needs a C++ compiler."""
    wanted = os.environ.get("CXX")
    candidates = [wanted] if wanted else ["g++", "clang++", "icpx", "cl"]
    if any(shutil.which(name) for name in candidates):
        return None
    return f"no C++ compiler was found ({', '.join(candidates)}); install one, or set CXX"
