"""Renders scenes: `python -m demo.scenes NAME... --out DIR` writes NAME.mp4 and NAME.json."""

from argparse import ArgumentParser
from pathlib import Path
import sys

from . import SCENES, render


def main() -> int:
    """Render the named scenes, or all."""
    parser = ArgumentParser(prog="python -m demo.scenes", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenes to render; none: all")
    parser.add_argument("--out", type=Path, default=Path(".demo/scenes"), help="folder to write to")
    parser.add_argument("--fps", type=float, default=15.0, help="frames a second")
    parser.add_argument("--seconds", type=float, help="cut to this length")
    parser.add_argument("--list", action="store_true", help="list the scenes and stop")
    arguments = parser.parse_args()
    if arguments.list:
        for script in SCENES.values():
            print(f"{script.name:20} {script.seconds:4.0f} s  {script.description}")
        return 0
    unknown = [name for name in arguments.names if name not in SCENES]
    if unknown:
        parser.error(f"no such scene: {', '.join(unknown)} (--list shows all)")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or SCENES:
        path = arguments.out / f"{name}.mp4"
        truth = render(name, path, seconds=arguments.seconds, fps=arguments.fps)
        print(f"{path}: {truth.seconds:.0f} s, {len(truth.incidents)} incident(s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
