"""The standard library in wide use, each part checked by what it computes."""
import argparse
import array
import ast
import asyncio
import base64
import bisect
import bz2
import calendar
import collections
import concurrent.futures
import configparser
import contextlib
import contextvars
import copy
import csv
import dataclasses
import datetime
import decimal
import difflib
import email.message
import enum
import fractions
import functools
import glob
import grp
import gzip
import hashlib
import heapq
import hmac
import html.parser
import inspect
import io
import ipaddress
import itertools
import json
import locale
import logging
import lzma
import math
import multiprocessing.dummy
import multiprocessing.pool
import operator
import os
import pathlib
import pickle
import platform
import pwd
import queue
import random
import re
import secrets
import shelve
import shutil
import signal
import sqlite3
import statistics
import string
import struct
import sys
import tarfile
import tempfile
import textwrap
import threading
import time
import traceback
import types
import typing
import unicodedata
import unittest
import urllib.parse
import uuid
import warnings
import weakref
import xml.etree.ElementTree
import zipfile
import zlib


class Standard(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)

    def test_text(self):
        self.assertEqual(json.loads(json.dumps({"a": [1, None, "\u00e9"]})), {"a": [1, None, "\u00e9"]})
        self.assertEqual(re.sub(r"(\w+) (\w+)", r"\2 \1", "hello world"), "world hello")
        self.assertEqual(unicodedata.normalize("NFC", "e\u0301"), "\u00e9")
        self.assertEqual(string.Template("$a").substitute(a=1), "1")
        self.assertEqual(textwrap.shorten("a b c d", 5, placeholder="..."), "a...")
        self.assertEqual(list(csv.reader(io.StringIO('a,"b,c"\r\n'))), [["a", "b,c"]])
        self.assertTrue(list(difflib.unified_diff(["a"], ["b"])))
        self.assertEqual(urllib.parse.urlsplit("http://h:1/p?q").port, 1)
        parser = configparser.ConfigParser()
        parser.read_string("[a]\nb = 1\n")
        self.assertEqual(parser.getint("a", "b"), 1)

    def test_numbers(self):
        self.assertEqual(decimal.Decimal("0.1") + decimal.Decimal("0.2"), decimal.Decimal("0.3"))
        self.assertEqual(fractions.Fraction(1, 3) * 3, 1)
        self.assertAlmostEqual(math.fsum([0.1] * 10), 1.0)
        self.assertEqual(statistics.median([3, 1, 2]), 2)
        self.assertEqual(random.Random(7).random(), random.Random(7).random())
        self.assertEqual(len(secrets.token_bytes(16)), 16)
        self.assertEqual(struct.unpack("<I", struct.pack("<I", 7)), (7,))
        self.assertEqual(str(ipaddress.ip_address("192.0.2.1") + 1), "192.0.2.2")

    def test_time(self):
        self.assertEqual(datetime.date(2024, 2, 29).isoformat(), "2024-02-29")
        self.assertEqual(calendar.monthrange(2024, 2)[1], 29)
        start = time.monotonic()
        time.sleep(0.001)
        self.assertGreater(time.monotonic(), start)
        if sys.version_info >= (3, 9):
            import zoneinfo
            zone = zoneinfo.ZoneInfo("Europe/Berlin")
            self.assertEqual(datetime.datetime(2024, 7, 1, tzinfo=zone).utcoffset(), datetime.timedelta(hours=2))

    def test_pools_of_threads(self):
        for pool in (multiprocessing.pool.ThreadPool, multiprocessing.dummy.Pool):
            with pool(2) as p:
                self.assertEqual(p.map(abs, [-1, 2]), [1, 2])
        with multiprocessing.Lock():
            self.assertEqual(multiprocessing.Value("i", 3).value, 3)

    def test_who_and_how(self):
        self.assertEqual(os.nice(0), os.nice(1) - 1)
        self.assertEqual(pwd.getpwuid(0).pw_name, grp.getgrgid(0).gr_name)
        self.assertTrue(pathlib.Path(os.__file__).owner())

    def test_bytes(self):
        data = b"sandbox" * 1000
        for codec in (zlib, bz2, lzma, gzip):
            self.assertEqual(codec.decompress(codec.compress(data)), data)
        self.assertEqual(base64.b64decode(base64.b64encode(data)), data)
        self.assertEqual(hashlib.sha256(b"").hexdigest()[:8], "e3b0c442")
        self.assertTrue(hmac.compare_digest(hmac.new(b"k", data, "sha256").digest(), hmac.new(b"k", data, "sha256").digest()))
        self.assertEqual(pickle.loads(pickle.dumps({1: (2, [3])})), {1: (2, [3])})

    def test_files(self):
        file = self.path / "deep" / "er" / "file.txt"
        file.parent.mkdir(parents=True)
        file.write_text("line\n" * 3)
        self.assertEqual(len(file.read_text().splitlines()), 3)
        shutil.copytree(self.path / "deep", self.path / "copy")
        self.assertEqual(len(glob.glob(str(self.path / "**" / "*.txt"), recursive=True)), 2)
        os.rename(file, self.path / "moved")
        os.symlink("moved", self.path / "link")
        self.assertEqual((self.path / "link").read_text(), "line\n" * 3)
        with zipfile.ZipFile(self.path / "a.zip", "w") as z:
            z.write(self.path / "moved", "name")
        self.assertEqual(zipfile.ZipFile(self.path / "a.zip").namelist(), ["name"])
        with tarfile.open(self.path / "a.tar.gz", "w:gz") as tar:
            tar.add(self.path / "moved", "name")
        self.assertEqual(tarfile.open(self.path / "a.tar.gz").getnames(), ["name"])
        with shelve.open(str(self.path / "shelf")) as shelf:
            shelf["a"] = [1]
            self.assertEqual(shelf["a"], [1])
        with open(self.path / "big", "wb") as f:
            f.truncate(1 << 20)
        self.assertEqual(os.stat(self.path / "big").st_size, 1 << 20)
        self.assertTrue(os.access("/tmp", os.W_OK))

    def test_database(self):
        with contextlib.closing(sqlite3.connect(self.path / "t.db")) as db:
            db.execute("create table t(a integer primary key, b text)")
            with db:
                db.executemany("insert into t(b) values (?)", [(str(i),) for i in range(500)])
            self.assertEqual(db.execute("select count(*), max(a) from t").fetchone(), (500, 500))
        with contextlib.closing(sqlite3.connect(f"file:{self.path}/w.db", uri=True)) as db:
            db.execute("pragma journal_mode=wal")
            db.execute("create table t(a)")
            db.commit()

    def test_threads(self):
        lock, total = threading.Lock(), collections.Counter()

        def work(n):
            for _ in range(1000):
                with lock:
                    total[n] += 1
            return n

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            self.assertEqual(sorted(pool.map(work, range(8))), list(range(8)))
        self.assertEqual(sum(total.values()), 8000)
        q = queue.Queue(1)
        t = threading.Thread(target=lambda: [q.put(i) for i in range(100)])
        t.start()
        self.assertEqual([q.get() for _ in range(100)], list(range(100)))
        t.join()
        fired = threading.Event()
        threading.Timer(0.001, fired.set).start()
        self.assertTrue(fired.wait(5))

    def test_asyncio(self):
        async def square(n):
            await asyncio.sleep(0.001)
            return n * n

        async def main():
            results = await asyncio.gather(*map(square, range(50)))
            return sum(results) + await asyncio.get_running_loop().run_in_executor(None, max, 1, 2)

        self.assertEqual(asyncio.run(main()), sum(n * n for n in range(50)) + 2)

    def test_language(self):
        @dataclasses.dataclass(order=True)
        class Point:
            x: int
            y: int = 0

        self.assertEqual(max(Point(1), Point(2, 3)), Point(2, 3))
        Color = enum.Enum("Color", "RED BLUE")
        self.assertIs(Color["RED"], Color(1))
        self.assertEqual(functools.reduce(operator.mul, range(1, 6)), 120)
        self.assertEqual(list(itertools.islice(itertools.cycle("ab"), 3)), ["a", "b", "a"])
        self.assertEqual(heapq.nsmallest(2, [3, 1, 2]), [1, 2])
        self.assertEqual(bisect.bisect([1, 2, 3], 2), 2)
        self.assertEqual(copy.deepcopy({1: [2]}), {1: [2]})
        self.assertEqual(ast.literal_eval("[1, 2]"), [1, 2])
        self.assertEqual(array.array("i", [1, 2]).tolist(), [1, 2])
        self.assertIn("def test_language", inspect.getsource(type(self).test_language))
        self.assertIsNone(weakref.ref(type("T", (), {})())())
        self.assertTrue(typing.get_type_hints(Point))
        variable = contextvars.ContextVar("v", default=1)
        self.assertEqual(variable.get(), 1)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            warnings.warn("x")
        self.assertEqual(len(seen), 1)
        try:
            1 / 0
        except ZeroDivisionError:
            self.assertIn("1 / 0", traceback.format_exc())
        self.assertEqual(types.SimpleNamespace(a=1).a, 1)

    def test_rest(self):
        self.assertEqual(uuid.uuid5(uuid.NAMESPACE_DNS, "a").version, 5)
        self.assertEqual(uuid.uuid4().version, 4)
        self.assertEqual(xml.etree.ElementTree.fromstring("<a><b/></a>")[0].tag, "b")
        message = email.message.EmailMessage()
        message["To"] = "a@example.org"
        self.assertIn("To:", message.as_string())
        logger = logging.getLogger("x")
        logger.addHandler(logging.StreamHandler(io.StringIO()))
        logger.warning("hello")
        self.assertEqual(argparse.ArgumentParser().parse_args([]), argparse.Namespace())
        self.assertEqual(locale.setlocale(locale.LC_CTYPE, "C.UTF-8"), "C.UTF-8")
        self.assertEqual(platform.system(), "Linux")
        self.assertEqual(html.parser.HTMLParser().getpos(), (1, 0))
        got = []
        signal.signal(signal.SIGUSR1, lambda *a: got.append(a[0]))
        os.kill(os.getpid(), signal.SIGUSR1)
        self.assertEqual(got, [signal.SIGUSR1])


unittest.main(verbosity=0)
