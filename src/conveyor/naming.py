"""Names of modules as a worker will import them."""

from __future__ import annotations

import sys
from pathlib import Path


def module_name(module: str) -> str:
    """Return the importable name of a module; for `__main__` the name a worker started in the
    same directory will know it by."""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    if file is None:
        return module
    path = Path(file).resolve().with_suffix("")
    try:
        parts = path.relative_to(Path.cwd()).parts
    except ValueError:
        parts = (path.name,)
    return ".".join(parts) if all(part.isidentifier() for part in parts) else path.name
