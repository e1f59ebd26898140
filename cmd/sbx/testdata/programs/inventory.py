"""A program of some size, as a student hands it in: a small inventory with a
text format, undo, reports and a simulation, reading commands from its input."""
import collections
import contextlib
import dataclasses
import datetime
import enum
import functools
import io
import itertools
import json
import os
import random
import re
import sys
import tempfile
import typing


class Kind(enum.Enum):
    TOOL = "tool"
    PART = "part"
    BOOK = "book"

    @classmethod
    def parse(cls, text):
        for kind in cls:
            if kind.value == text.lower():
                return kind
        raise CommandError(f"unknown kind {text!r}")


class CommandError(Exception):
    """Something that the user can correct."""


@dataclasses.dataclass(frozen=True)
class Item:
    name: str
    kind: Kind
    cents: int

    def __post_init__(self):
        if self.cents < 0:
            raise CommandError("a price is not negative")

    @property
    def price(self):
        return f"{self.cents // 100}.{self.cents % 100:02}"


@dataclasses.dataclass
class Stock:
    item: Item
    count: int = 0
    moves: typing.List[int] = dataclasses.field(default_factory=list)

    def move(self, n):
        if self.count + n < 0:
            raise CommandError(f"only {self.count} of {self.item.name}")
        self.count += n
        self.moves.append(n)

    @property
    def value(self):
        return self.count * self.item.cents


class History:
    """Undo and redo as two stacks of pairs of functions."""

    def __init__(self):
        self.done, self.undone = [], []

    def run(self, do, undo):
        do()
        self.done.append((do, undo))
        self.undone.clear()

    def undo(self):
        if not self.done:
            raise CommandError("nothing to undo")
        do, undo = self.done.pop()
        undo()
        self.undone.append((do, undo))

    def redo(self):
        if not self.undone:
            raise CommandError("nothing to redo")
        do, undo = self.undone.pop()
        do()
        self.done.append((do, undo))


class Inventory:
    def __init__(self):
        self.stock = {}
        self.history = History()

    def __iter__(self):
        return iter(sorted(self.stock.values(), key=lambda s: s.item.name))

    def __len__(self):
        return sum(s.count for s in self)

    def get(self, name):
        try:
            return self.stock[name]
        except KeyError:
            close = sorted(self.stock, key=lambda known: distance(name, known))[:1]
            hint = f", did you mean {close[0]!r}?" if close and distance(name, close[0]) < 3 else ""
            raise CommandError(f"no item {name!r}{hint}") from None

    def add(self, item):
        if item.name in self.stock:
            raise CommandError(f"{item.name!r} is there already")
        self.history.run(lambda: self.stock.__setitem__(item.name, Stock(item)), lambda: self.stock.__delitem__(item.name))

    def move(self, name, n):
        self.get(name).move(0)
        self.history.run(lambda: self.get(name).move(n), lambda: self.get(name).move(-n))

    def total(self):
        return sum(s.value for s in self)

    def by_kind(self):
        table = collections.defaultdict(list)
        for s in self:
            table[s.item.kind].append(s)
        return dict(table)


@functools.lru_cache(maxsize=None)
def distance(a, b):
    """Levenshtein's."""
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return distance(a[1:], b[1:])
    return 1 + min(distance(a[1:], b), distance(a, b[1:]), distance(a[1:], b[1:]))


PRICE = re.compile(r"^(\d+)(?:\.(\d\d))?$")


def cents(text):
    match = PRICE.match(text)
    if not match:
        raise CommandError(f"{text!r} is no price")
    return int(match.group(1)) * 100 + int(match.group(2) or 0)


def number(text):
    try:
        return int(text)
    except ValueError:
        raise CommandError(f"{text!r} is no number") from None


class Shell:
    def __init__(self, inventory, out):
        self.inventory, self.out = inventory, out
        self.commands = {name[3:]: getattr(self, name) for name in dir(self) if name.startswith("do_")}

    def say(self, *words):
        print(*words, file=self.out)

    def run(self, lines):
        errors = 0
        for number_, line in enumerate(lines, 1):
            line = line.split("#")[0].strip()
            if not line:
                continue
            command, *arguments = line.split()
            try:
                if command not in self.commands:
                    raise CommandError(f"unknown command {command!r}")
                self.commands[command](*arguments)
            except CommandError as error:
                errors += 1
                self.say(f"line {number_}: {error}")
            except TypeError:
                errors += 1
                self.say(f"line {number_}: wrong number of words for {command}")
        return errors

    def do_add(self, name, kind, price):
        self.inventory.add(Item(name, Kind.parse(kind), cents(price)))

    def do_in(self, name, n):
        self.inventory.move(name, number(n))

    def do_out(self, name, n):
        self.inventory.move(name, -number(n))

    def do_undo(self):
        self.inventory.history.undo()

    def do_redo(self):
        self.inventory.history.redo()

    def do_list(self):
        width = max((len(s.item.name) for s in self.inventory), default=0)
        for s in self.inventory:
            self.say(f"{s.item.name:<{width}} {s.count:>5} x {s.item.price:>8}")

    def do_total(self):
        total = self.inventory.total()
        self.say(f"total {total // 100}.{total % 100:02} in {len(self.inventory)} pieces")

    def do_kinds(self):
        for kind, stocks in sorted(self.inventory.by_kind().items(), key=lambda pair: pair[0].value):
            self.say(kind.value, len(stocks))


def save(inventory, path):
    rows = [{"name": s.item.name, "kind": s.item.kind.value, "cents": s.item.cents, "count": s.count} for s in inventory]
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"version": 1, "date": str(datetime.date(2024, 1, 1)), "rows": rows}, f, indent=1)


def load(path):
    inventory = Inventory()
    with open(path, encoding="utf-8") as f:
        data = json.load(f)
    for row in data["rows"]:
        inventory.add(Item(row["name"], Kind(row["kind"]), row["cents"]))
        inventory.move(row["name"], row["count"])
    return inventory


@contextlib.contextmanager
def scratch():
    with tempfile.TemporaryDirectory() as folder:
        yield os.path.join(folder, "inventory.json")


def simulate(inventory, days, seed):
    """Customers come and go; what is out of stock is counted."""
    dice = random.Random(seed)
    names = sorted(inventory.stock)
    missed = collections.Counter()
    for day in range(days):
        for name in dice.choices(names, k=5):
            try:
                inventory.move(name, -dice.randint(1, 3))
            except CommandError:
                missed[name] += 1
        if day % 7 == 6:
            for name in names:
                inventory.move(name, 10)
    return missed


def moving_average(values, n):
    window = collections.deque(maxlen=n)
    for v in values:
        window.append(v)
        yield sum(window) / len(window)


def report(inventory, missed):
    out = io.StringIO()
    print("report", file=out)
    for s in inventory:
        running = list(itertools.accumulate(s.moves))
        smooth = list(moving_average(running, 3))
        print(f"  {s.item.name}: {s.count}, low {min(running, default=0)}, last {smooth[-1]:.2f}, missed {missed[s.item.name]}", file=out)
    return out.getvalue()


def main(arguments):
    inventory = Inventory()
    errors = Shell(inventory, sys.stdout).run(sys.stdin)
    with scratch() as path:
        save(inventory, path)
        again = load(path)
        print("saved and loaded:", again.total() == inventory.total(), os.path.getsize(path) > 100)
    missed = simulate(again, 30, seed=len(arguments))
    sys.stdout.write(report(again, missed))
    print("errors:", errors, "arguments:", arguments)
    return 3 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
