package jail

import (
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestEveryFieldIsCarried sets every field there is, so that one which a fields
// method forgets comes out as zero.
func TestEveryFieldIsCarried(t *testing.T) {
	for _, v := range []carried{&Config{}, &message{}} {
		n := uint64(0)
		setAll(t, reflect.ValueOf(v).Elem(), &n)
		got := reflect.New(reflect.TypeOf(v).Elem()).Interface().(carried)
		if err := decode(encode(v), got); err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("%T: %+v, %v; want %+v", v, got, err, v)
		}
	}
}

// setAll gives every field a value of its own.
func setAll(t *testing.T, v reflect.Value, n *uint64) {
	t.Helper()
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			setAll(t, v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		setAll(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		setAll(t, v.Index(0), n)
		setAll(t, v.Index(1), n)
	case reflect.String:
		v.SetString(string(rune('a' + *n)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		v.SetUint(*n % 256)
	default:
		t.Fatalf("a message holds a %s: say what it is here", v.Kind())
	}
}

func TestNumbersSurviveTheWire(t *testing.T) {
	for _, want := range []message{
		{Exited: &Exit{Status: math.MaxUint32, User: math.MinInt64, System: math.MaxInt64, MaxRSS: -1}},
		{Exited: &Exit{User: -time.Nanosecond, Survivors: math.MinInt}},
		{Failed: &SetupError{Errno: maxErrno}},
	} {
		var got message
		if err := decode(encode(&want), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
}

func TestTextsNeedNotBeUTF8(t *testing.T) {
	want := Config{Boot: "\xff\x00", Files: []File{{Path: []byte{0xfe, '\n'}}}, Argv: []string{"", "\xed\xa0\x80"}}
	var got Config
	if err := decode(encode(&want), &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

// TestWhatIsTooLargeIsRefused: a number must fit where it goes, and a list takes no
// memory that its bytes could not fill.
func TestWhatIsTooLargeIsRefused(t *testing.T) {
	number := func(n uint64) []byte {
		var c codec
		c.number(&n)
		return c.buf
	}
	for name, tc := range map[string]struct {
		body []byte
		read func(*codec)
	}{
		"a status":     {number(math.MaxUint32 + 1), func(c *codec) { integer(c, new(uint32)) }},
		"a flag":       {number(2), func(c *codec) { c.flag(new(bool)) }},
		"an empty one": {nil, func(c *codec) { integer(c, new(int)) }},
		"a text":       {append(number(3), "ab"...), func(c *codec) { text(c, new(string)) }},
		"a list":       {append(number(math.MaxUint64), "ab"...), func(c *codec) { list(c, new([]string), text) }},
	} {
		c := codec{buf: tc.body, reading: true}
		tc.read(&c)
		if !c.bad {
			t.Errorf("%s: accepted", name)
		}
		n := 7
		if integer(&c, &n); n != 0 {
			t.Errorf("%s: read %d behind it", name, n)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(encode(&Config{
		Hostname: "sbx", Mounts: []Mount{{Kind: MountBind, Source: "/usr", Target: "/usr", Dir: true, Attr: attrRuntime}},
		Files: []File{{Path: []byte("/a"), Size: 1}}, Symlinks: []Symlink{{"/a", "b"}},
		Rlimits: []Rlimit{{"RLIMIT_CORE", unix.RLIMIT_CORE, 0, 0}}, Argv: []string{"/bin/true"},
	}))
	f.Fuzz(func(t *testing.T, body []byte) {
		var first, second Config
		if err := decode(body, &first); err != nil {
			if !errors.Is(err, errFrame) {
				t.Errorf("%v, want a protocol error", err)
			}
			return
		}
		if err := decode(encode(&first), &second); err != nil || !reflect.DeepEqual(first, second) {
			t.Errorf("accepted %q, which becomes %+v, %v", body, second, err)
		}
	})
}
