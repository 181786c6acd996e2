"""The process that a memory scene is played in: `scene.py SCENE CONTENDER COUNT LOOP`.

Prints the figures as JSON. Started by `memory.in_fresh_process`.
"""

from __future__ import annotations

import json
import sys

import event_loop
from rows import burst, portal_idle, suspended

SCENES = {
    "suspended": suspended.scene,
    "burst-of-functions": burst.of_functions,
    "burst-of-tasks": burst.of_tasks,
    "portal-idle": portal_idle.scene,
}


def main() -> None:
    scene, contender, count, loop = sys.argv[1:]
    print(json.dumps(event_loop.run(SCENES[scene](contender, int(count)), loop)))


if __name__ == "__main__":
    main()
