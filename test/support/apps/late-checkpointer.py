# An application whose checkpointing thread is held up for a while between "everything is in the database file" and giving
# read lock 0 back, as a loaded machine does now and then: here the process takes that lock itself. Then it runs TRUNCATE.
# Prints how long TRUNCATE took, ms.
import fcntl
import os
import sqlite3
import sys
import time

# WAL_READ_LOCK(0) in SQLite's wal.c: byte 120 is the write lock, 121 and 122 come before it.
READ_LOCK_0 = 123

path, hold_seconds = sys.argv[1], float(sys.argv[2])
database = sqlite3.connect(path, timeout=5, isolation_level=None)
shm = None


def held_up():
    database.execute("INSERT INTO t VALUES (1, randomblob(100))")
    # The agent's next pin is at a read mark by then, and does not checkpoint yet.
    time.sleep(0.005)
    busy, frames, backfilled = database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if busy or frames != backfilled:
        return False
    try:
        fcntl.lockf(shm, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, READ_LOCK_0)
        return True
    except OSError:
        return False


database.execute("SELECT count(*) FROM t").fetchone()
shm = os.open(path + "-shm", os.O_RDWR)
for attempt in range(1000):
    if held_up():
        break
    time.sleep(0.05)
else:
    sys.exit("read lock 0 was never free")
time.sleep(hold_seconds)
fcntl.lockf(shm, fcntl.LOCK_UN, 1, READ_LOCK_0)
started = time.monotonic()
database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
print(round((time.monotonic() - started) * 1000), flush=True)
