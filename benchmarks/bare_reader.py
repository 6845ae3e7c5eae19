"""The least that can follow a spool: copies a file to stdout until the process that lets it grow has ended.

bare_reader.py PID FILE
"""

import os
import sys
import time
from pathlib import Path

_CHUNK = 1 << 20
_PAUSE_S = 0.01


def main(writer: str, file: str) -> None:
    with open(file, "rb", buffering=0) as spool:
        ended = False
        while True:
            if chunk := spool.read(_CHUNK):
                os.write(1, chunk)
            elif ended:
                return
            else:
                ended = _has_ended(writer)  # looked at before the last look at the file
                time.sleep(0 if ended else _PAUSE_S)


def _has_ended(pid: str) -> bool:
    """A zombie has: the shell that started it waits for it only later."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True


if __name__ == "__main__":
    main(*sys.argv[1:])
