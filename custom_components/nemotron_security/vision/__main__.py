"""Runs the package without Home Assistant.

`python -I FOLDER --worker` is the worker process, `python -I FOLDER --check` tries the detector whose config it reads
on stdin, `python FOLDER VIDEO` watches a video file. As the folder stands below an integration whose `select.py` or
`event.py` would shadow the standard library, that is never put on the module path: the package registers itself, as
`vision`.
"""

from importlib import import_module, util
from pathlib import Path
import sys

_FOLDER = Path(__file__).resolve().parent
_PACKAGES = "--packages="
_MODULES = {"--worker": "worker", "--check": "trial_run"}


def _register() -> str:
    """Make this folder importable as the package `vision`; returns that name."""
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _FOLDER]
    spec = util.spec_from_file_location("vision", _FOLDER / "__init__.py", submodule_search_locations=[str(_FOLDER)])
    if spec is None or spec.loader is None:
        raise ImportError(f"no package in {_FOLDER}")
    sys.modules["vision"] = package = util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return "vision"


def _main() -> int:
    name = __package__ or _register()
    arguments = sys.argv[1:]
    # Where the parent's packages lie; an isolated interpreter does not know all of its folders.
    folders = [item.removeprefix(_PACKAGES) for item in arguments if item.startswith(_PACKAGES)]
    sys.path += [folder for folder in folders if folder not in sys.path]
    arguments = [item for item in arguments if not item.startswith(_PACKAGES)]
    for option, module in _MODULES.items():
        if option in arguments:
            arguments.remove(option)
            return _run(f"{name}.{module}", arguments)
    return _run(f"{name}.watch", arguments)


def _run(module: str, arguments: list[str]) -> int:
    status: int = import_module(module).main(arguments)
    return status


if __name__ == "__main__":
    sys.exit(_main())
