package jail

import "testing"

func TestParseIDMap(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want int
		ok   bool
	}{
		{"         0          0 4294967295\n", 1, true},
		{"0 1000 1\n1 100000 65536\n", 2, true},
		{"", 0, true},
		{"0 1000\n", 0, false},
		{"a b c\n", 0, false},
		{"-1 0 5\n", 0, false},
	} {
		got, err := parseIDMap([]byte(tc.in))
		if (err == nil) != tc.ok || len(got) != tc.want {
			t.Errorf("parseIDMap(%q) = %v, %v", tc.in, got, err)
		}
	}
}

func TestPickID(t *testing.T) {
	whole := []idRange{{0, 4294967295}}
	container := []idRange{{0, 65536}}
	for _, tc := range []struct {
		name   string
		own    int
		root   bool
		n      uint64
		ranges []idRange
		want   int
	}{
		{"a plain user stays who he is", 1000, false, 7, whole, 1000},
		{"root becomes a per-run id", 0, true, 7, whole, perRunBase + 7},
		{"two runs differ", 0, true, 8, whole, perRunBase + 8},
		{"container: upper half of its map", 0, true, 7, container, 32768 + 7},
		{"container: wraps inside its map", 0, true, 32768 + 3, container, 32768 + 3},
		{"a small map with nobody", 0, true, 7, []idRange{{0, 1}, {65534, 1}}, 65534},
		{"only itself", 0, true, 7, []idRange{{0, 1}}, 0},
	} {
		if got := pickID(tc.own, tc.root, tc.n, tc.ranges); got != tc.want {
			t.Errorf("%s: got %d, want %d", tc.name, got, tc.want)
		}
	}
}

func FuzzParseIDMap(f *testing.F) {
	f.Add([]byte("0 0 4294967295\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := parseIDMap(data); err != nil && got != nil {
			t.Errorf("both a map and an error: %v, %v", got, err)
		}
	})
}
