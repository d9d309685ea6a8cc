"""What takes part without a list to edit: every module of a folder that declares a certain name."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any


class DiscoveryError(ValueError):
    """A module of a folder whose members are found by themselves is not what the folder needs: one line with its file.

    `hint` says what to write.
    """

    def __init__(self, message: str, hint: str = ""):
        super().__init__(f"{message}: {hint}" if hint else message)
        self.message, self.hint = message, hint


def subpackages(package: str) -> list[str]:
    """Dotted names of the folders directly inside `package`, by name.

    Raises DiscoveryError for a folder of modules without an `__init__.py`, which Python would not show here.
    """
    for path in importlib.import_module(package).__path__:
        for folder in sorted(Path(path).iterdir()):
            if folder.is_dir() and any(folder.glob("*.py")) and not (folder / "__init__.py").exists():
                raise DiscoveryError(
                    f"{folder} has no __init__.py", "add one, whose docstring says what the folder is about"
                )
    return sorted(f"{package}.{one.name}" for one in _entries(package) if one.ispkg)


def declarations(package: str, name: str) -> list[tuple[ModuleType, Any]]:
    """(module, what it declares as `name`) for every module directly inside `package`, by the modules' names.

    Folders, modules that begin with an underscore and those that the package lists in its `PARTS` (its machinery,
    which declares nothing) are not asked.  Importing them is the cost.
    Raises DiscoveryError, with the file, for a module that fails to import or does not declare `name`.
    """
    parts = getattr(importlib.import_module(package), "PARTS", ())
    names = [one.name for one in _entries(package) if not one.ispkg and one.name[0] != "_" and one.name not in parts]
    pairs = []
    for module in (_imported(package, one) for one in sorted(names)):
        if not hasattr(module, name):
            raise DiscoveryError(
                f"{_file(module)} declares no {name}",
                f"every module of {package} declares one; a helper is named in {package}.PARTS or begins with _",
            )
        pairs.append((module, getattr(module, name)))
    return pairs


def merged(package: str, name: str) -> dict[str, Any]:
    """All entries of the mappings that the modules of `package` declare as `name`, in the order of `declarations`.

    Raises DiscoveryError as `declarations` does, and for an entry that two modules declare.
    """
    entries: dict[str, Any] = {}
    owners: dict[str, ModuleType] = {}
    for module, declared in declarations(package, name):
        for key, value in declared.items():
            claim_name(owners, key, module)
            entries[key] = value
    return entries


def claim_name(owners: dict[str, ModuleType], key: str, module: ModuleType) -> None:
    """Note in `owners` that `module` declares `key`. Raises DiscoveryError if it or another module did already."""
    if key in owners:
        raise DiscoveryError(
            f"{key!r} is declared twice, in {_file(owners[key])} and {_file(module)}", "give one another name"
        )
    owners[key] = module


def _entries(package: str) -> list[pkgutil.ModuleInfo]:
    return list(pkgutil.iter_modules(importlib.import_module(package).__path__))


def _imported(package: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(f"{package}.{name}")
    except DiscoveryError:  # of another folder's module, which this one imports: that file is the broken one
        raise
    except (Exception, SystemExit) as error:
        spec = importlib.util.find_spec(f"{package}.{name}")
        file = spec.origin if spec else f"{package}.{name}"
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DiscoveryError(f"{file} cannot be imported: {reason}", "run it with python to see where") from error


def _file(module: ModuleType) -> str:
    return str(Path(module.__file__ or module.__name__))
