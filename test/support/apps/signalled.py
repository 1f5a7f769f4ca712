"""An application in one process: makes its database when it is not there, tells what it is told by signals, and ends with 7."""
import os
import signal
import sqlite3
import sys
import time

database, said = sys.argv[1], sys.argv[2]
connection = sqlite3.connect(database, isolation_level=None)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body)")


def say(body):
    connection.execute("INSERT INTO t (body) VALUES (?)", (body,))
    with open(said, "a") as file:
        file.write(body + "\n")


def end(number, frame):
    say("last")
    os._exit(7)


signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGHUP, lambda number, frame: say("hup"))
say(f"up {os.getpid()}")
while True:
    time.sleep(0.05)
