"""Writes one file without end. argv: path, how (append: adds lines; inplace: writes blocks all over it; bursts: rewrites
all of it, then rests), bytes to begin with."""

import os
import sys
import time

path, how, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
os.write(fd, os.urandom(size))
print("ready", flush=True)
count = 0
while True:
    count += 1
    if how == "append":
        os.lseek(fd, 0, os.SEEK_END)
        os.write(fd, b"line %d\n" % count)
        time.sleep(0.002)
    elif how == "inplace":
        os.pwrite(fd, b"%10d" % count, (count * 7919) % size)
        time.sleep(0.0005)
    else:
        for at in range(0, size, 65536):
            os.pwrite(fd, b"%16d" % count * (65536 // 16), at)
        time.sleep(0.3)
