"""`toylab figures`: every module of the package `figures` that declares `NAME`, drawn and saved as PDF, PNG
and data, and as GIF if it has an `animate(data)`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from toylab.commands.parts.files import writable_folder, write_atomically
from toylab.commands.parts.refusal import BadInput, nearest
from toylab.discovery import DiscoveryError, claim_name, declarations

DEFAULT_OUT = "out/figures"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="which figures (default: all)")
    parser.add_argument("--list", action="store_true", help="list the figures and draw nothing")
    parser.add_argument("--quick", action="store_true", help="coarser grids and shorter runs")
    parser.add_argument("--out", metavar="DIR", default=DEFAULT_OUT, help=f"where figures go (default {DEFAULT_OUT})")


def run(options: argparse.Namespace) -> int:
    """Exit code 0 if every figure was drawn, 1 if one failed (the others are drawn all the same)."""
    from toylab.commands.parts.shadowing import require_own

    require_own("figures")
    import matplotlib

    matplotlib.use("Agg")
    modules = _modules()
    for name in options.names:
        if name not in modules:
            raise BadInput(f"no figure is called {name!r}", nearest(name, modules, f"figures are {', '.join(modules)}"))
    chosen = {name: module for name, module in modules.items() if name in options.names or not options.names}
    if options.list:
        return _listed(chosen, options.json)
    if not chosen:
        raise BadInput(
            "the package figures holds no figure",
            "each of its modules declares NAME, TITLE, compute and draw",
        )
    folder = writable_folder(options.out)
    rows = []
    for name, module in chosen.items():
        print(f"{name} ...", end=" ", flush=True, file=sys.stderr)
        rows.append(_drawn(name, module, folder, options.quick))
        print(rows[-1]["error"] or f"{rows[-1]['seconds']:.1f} s", file=sys.stderr)
    if options.json:
        print(json.dumps({"figures": rows}))
    else:
        print("\n".join(file for row in rows for file in row["files"]))
    return 1 if any(row["error"] for row in rows) else 0


def _modules() -> dict[str, ModuleType]:
    """Every figure's module by its name.

    **Errors:** `DiscoveryError`, with the file, for a module that is no figure.
    """
    modules: dict[str, ModuleType] = {}
    for module, name in declarations("figures", "NAME"):
        if lacking := [part for part in ("TITLE", "compute", "draw") if not hasattr(module, part)]:
            raise DiscoveryError(
                f"{module.__file__} declares no {' and no '.join(lacking)}",
                "a figure declares NAME, TITLE, compute(quick) and draw(data)",
            )
        claim_name(modules, name, module)
    return modules


def _listed(modules: dict[str, ModuleType], as_json: bool) -> int:
    if as_json:
        rows = [{"name": name, "title": module.TITLE} for name, module in modules.items()]
        print(json.dumps({"figures": rows}))
        return 0
    width = max(map(len, modules), default=0)
    for name, module in modules.items():
        print(f"{name:<{width}}  {module.TITLE}")
    return 0


def _drawn(name: str, module: ModuleType, folder: Path, quick: bool) -> dict[str, Any]:
    """Compute one figure, save its data, then draw it and save its pictures.

    The data survive a drawing that fails.  Pictures are written only once all of them exist in memory.
    """
    start = time.perf_counter()
    error, files = "", []

    def save(contents: dict[str, bytes]) -> None:
        for suffix, content in contents.items():
            path = folder / f"{name}.{suffix}"
            write_atomically(path, content)
            files.append(str(path))

    try:
        with contextlib.redirect_stdout(sys.stderr):
            data = module.compute(quick)
            save({"npz": packed(data)})
            pictures = rendered(module.draw(data))
            if hasattr(module, "animate"):
                pictures["gif"] = animated(module.animate(data))
        save(pictures)
    except Exception as failure:  # noqa: BLE001 - the other figures are drawn all the same
        error = " ".join(f"{type(failure).__name__}: {failure}".split())
    seconds = round(time.perf_counter() - start, 3)
    return {"name": name, "title": module.TITLE, "files": files, "seconds": seconds, "error": error or None}


def packed(data: dict[str, Any]) -> bytes:
    """The arrays as the bytes of an npz file."""
    import numpy as np

    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in data.items()}
    for name, array in arrays.items():
        if array.dtype == object:
            raise TypeError(f"the figure's data {name!r} is no array of numbers or text")
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def rendered(figure: Any) -> dict[str, bytes]:
    """Suffix -> the bytes of the figure in that format; the figure is closed."""
    from matplotlib import pyplot

    contents = {}
    # without a date, equal figures are equal files
    for suffix, metadata in (("pdf", {"CreationDate": None}), ("png", {})):
        stream = io.BytesIO()
        figure.savefig(stream, format=suffix, metadata=metadata)
        contents[suffix] = stream.getvalue()
    pyplot.close(figure)
    return contents


def animated(animation: Any) -> bytes:
    """The bytes of an animation as GIF."""
    with tempfile.TemporaryDirectory() as folder:  # the writer needs a path
        path = Path(folder) / "animation.gif"
        animation.save(path, writer="pillow", dpi=110)
        return path.read_bytes()
