"""Reads mutants in a process of its own, for test_mutated_files: one line of JSON for each that does not end well.

    python read_mutants.py FOLDER SEED LAST FILE:FIRST ...

FOLDER holds the good files; the current folder and TMPDIR are empty ones that must stay so. A line `at FILE N` goes
before each mutant, so that whoever waits knows which one ended the process.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np
from mutants import mutant
from tiny_files import FORMATS, shrink_families

from jaxviz.errors import JaxvizError
from jaxviz.models import weight_shapes
from weights_convert.read import read_weights

LIMIT_S = 10  # for one file
LIMIT_BYTES = 2**30  # above the size of the file


def main() -> None:
    folder, seed, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("error")
    shrink_families()
    bases = {name: (folder / name).read_bytes() for name in FORMATS}
    for name in FORMATS:  # everything is imported, and the good files load
        read_weights(folder / name, FORMATS[name])
    for name, _, first in (argument.partition(":") for argument in sys.argv[4:]):
        for number in range(int(first), last):
            _say(f"at {name} {number}")
            _try(folder / f"mutant-{name}", name, bases, seed, number)


def _try(path: Path, name: str, bases: dict[str, bytes], seed: int, number: int) -> None:
    work = Path.cwd()
    kind, content = mutant(name, bases, str(work / "canary"), seed, number)
    path.write_bytes(content)
    size = len(content)
    del content
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    wrong = _outcome(path, FORMATS[name], size)
    faulthandler.cancel_dump_traceback_later()
    left = [one for place in (work, Path(tempfile.gettempdir())) for one in place.iterdir()]
    if left:
        wrong = f"it left {[str(one) for one in left]} behind"
        for one in left:
            one.unlink()
    if wrong:
        _say(json.dumps({"file": name, "number": number, "kind": kind, "wrong": wrong}))
    path.unlink()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _outcome(path: Path, model: str, size: int) -> str:
    """What is wrong with how the file was read, or nothing."""
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + LIMIT_BYTES + size, resource.RLIM_INFINITY))
    try:
        found = read_weights(path, model)
    except JaxvizError as error:
        return "it took too much memory: " + _shown(error) if _is_about_memory(error) else ""
    except BaseException as error:  # the test is that there is none
        return _shown(error)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    shapes = weight_shapes(model, head=found.has_head)
    arrays = {layer: {name: array.shape for name, array in own.items()} for layer, own in found.arrays.items()}
    finite = all(np.isfinite(array).all() for own in found.arrays.values() for array in own.values())
    return "" if arrays == shapes and finite else "it loaded other shapes, or numbers that are not finite"


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _is_about_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-3000:]


if __name__ == "__main__":
    main()
