"""A short tour: some honest work, then things that the jail refuses."""
import json
import os
import pathlib
import socket
import sqlite3
import tempfile

with tempfile.TemporaryDirectory() as folder:
    db = sqlite3.connect(pathlib.Path(folder) / "words.db")
    db.execute("create table words(word, length)")
    db.executemany("insert into words values (?, ?)", [(w, len(w)) for w in "the kernel is the wall".split()])
    print(json.dumps(db.execute("select word, length from words order by length desc").fetchone()))


def attempt(what, action):
    try:
        action()
        print(f"{what}: done")
    except OSError as error:
        print(f"{what}: refused ({error.strerror or error})")


attempt("write to /etc", lambda: open("/etc/motd", "w"))
attempt("read /etc/shadow", lambda: open("/etc/shadow"))
attempt("open a socket", lambda: socket.create_connection(("192.0.2.1", 80), 1))
attempt("start a process", lambda: os.fork() or os._exit(0))
attempt("end process 1", lambda: os.kill(1, 9))
