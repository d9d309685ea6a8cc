"""Output folders and files: checked before the work starts, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from toylab.commands.parts.refusal import BadInput


def writable_folder(path: str | Path) -> Path:
    """The folder, created if need be and seen to accept a file.

    **Errors:** `BadInput` if it cannot be created or written; folders made on the way are removed again.
    """
    folder = Path(path)
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        for parent in missing:
            with contextlib.suppress(OSError, ValueError):
                parent.rmdir()
        reason = getattr(error, "strerror", None) or str(error)
        message = f"the output folder {str(folder)!r} cannot be written: {reason}"
        raise BadInput(message, "give a writable folder with --out DIR") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file by `content`: a reader, or a crash, sees the old file or the new one, never a part."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
