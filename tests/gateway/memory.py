"""Counts texts in the memory of a process.

Usage: python memory.py PID, with a text on each line of standard input. Prints a number for each.
"""

import re
import sys


def main(pid):
    texts = [line.strip().encode() for line in sys.stdin]
    counts = [0] * len(texts)
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            start, end, mode = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
            if not mode.startswith("rw"):
                continue
            try:
                memory.seek(int(start, 16))
                data = memory.read(int(end, 16) - int(start, 16))
            except (OSError, ValueError, OverflowError):
                # Some pages, such as the kernel's, cannot be read.
                continue
            for at, text in enumerate(texts):
                counts[at] += data.count(text)
    print(*counts, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
