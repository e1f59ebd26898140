import dataclasses, enum, pickle, typing, copy, json, collections

@dataclasses.dataclass
class Point:
    x: int
    y: 'typing.Optional[Point]' = None

class Colour(enum.Enum):
    RED = 1

Pair = collections.namedtuple('Pair', 'a b')

if __name__ == '__main__':
    p = Point(1, Point(2))
    assert pickle.loads(pickle.dumps([p, Colour.RED, Pair(1, 2)])) == [p, Colour.RED, Pair(1, 2)]
    print(p, typing.get_type_hints(Point), copy.deepcopy(p), json.dumps({'a': 1}))
