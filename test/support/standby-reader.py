"""Reads a standby database over and over and checks what must hold in every committed state of the primary.

standby-reader.py FILE [hold-ms]: prints `reading` after the first good read, and at SIGTERM one line of JSON:
{"reads": n, "versions": n, "broken": [...]}. The tables: account(id, balance) with a constant sum, and two
counters that are always equal; a version that falls means that an older state came back.
"""

import json
import signal
import sqlite3
import sys
import time

file = sys.argv[1]
hold = float(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0.0
broken = []
reads = 0
versions = set()
newest = -1
running = True


def stop(*_):
    global running
    running = False


signal.signal(signal.SIGTERM, stop)


def look(connection):
    global newest
    connection.execute("BEGIN")
    try:
        (total,) = connection.execute("SELECT sum(balance) FROM account").fetchone()
        if hold:
            time.sleep(hold)
        (one,) = connection.execute("SELECT n FROM counter_one").fetchone()
        (two,) = connection.execute("SELECT n FROM counter_two").fetchone()
        (again,) = connection.execute("SELECT sum(balance) FROM account").fetchone()
    finally:
        connection.execute("COMMIT")
    if total != 100000 or again != total or one != two:
        broken.append(f"sum {total} then {again}, counters {one} and {two}")
    if one < newest:
        broken.append(f"version {one} after {newest}")
    newest = max(newest, one)
    versions.add(one)


connection = sqlite3.connect(file, isolation_level=None, timeout=5)
while running and len(broken) < 20:
    try:
        look(connection)
        reads += 1
        # The processors are also for those who write.
        time.sleep(0.001)
        if reads == 1:
            print("reading", flush=True)
        if reads % 500 == 0 and not hold:
            ok = connection.execute("PRAGMA quick_check").fetchone()[0]
            if ok != "ok":
                broken.append(f"quick_check: {ok}")
    except sqlite3.Error as error:
        broken.append(f"{type(error).__name__}: {error}")
        time.sleep(0.05)
print(json.dumps({"reads": reads, "versions": len(versions), "broken": broken[:20]}), flush=True)
