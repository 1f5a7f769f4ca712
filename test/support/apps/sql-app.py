# sql-app.ts with the system's SQLite.
import json
import sqlite3
import sys

path = sys.argv[1]
database = None


def connect():
    global database
    if database is None:
        database = sqlite3.connect(path, timeout=5, isolation_level=None)
    return database


def run(sql):
    trimmed = sql.strip()
    if ";" in trimmed[:-1]:
        for statement in trimmed.rstrip(";").split(";"):
            connect().execute(statement).fetchall()
        return []
    return [list(row) for row in connect().execute(trimmed).fetchall()]


def answer(request):
    global database
    try:
        if request.get("action") == "connect":
            connect()
        if request.get("action") == "disconnect" and database is not None:
            database.close()
            database = None
        return {"rows": run(request["sql"]) if "sql" in request else []}
    except sqlite3.Error as error:
        return {"error": str(error)}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
