package posture

import (
	"os"
	"strings"
	"testing"
)

const confined = `Name:	python3
Umask:	0022
State:	S (sleeping)
Tgid:	4242
Ngid:	0
Pid:	4242
PPid:	4200
TracerPid:	0
Uid:	1879052434	1879052434	1879052434	1879052434
Gid:	1879052434	1879052434	1879052434	1879052434
FDSize:	64
Groups:	 
NStgid:	4242	9
NSpid:	4242	9
Threads:	1
CapInh:	0000000000000000
CapPrm:	0000000000000000
CapEff:	0000000000000000
CapBnd:	0000000000000000
CapAmb:	0000000000000000
NoNewPrivs:	1
Seccomp:	2
Seccomp_filters:	1
`

func jailed(t *testing.T) Posture {
	t.Helper()
	s, err := parseStatus([]byte(confined))
	if err != nil {
		t.Fatal(err)
	}
	inside := Namespaces{}
	for i, kind := range Kinds {
		inside[kind] = 4026532000 + uint64(i)
	}
	return Posture{Status: s, Namespaces: inside, UIDMap: "1000 1879052434 1", GIDMap: "1000 1879052434 1"}
}

func host() Namespaces {
	out := Namespaces{}
	for i, kind := range Kinds {
		out[kind] = 4026531834 + uint64(i)
	}
	return out
}

func TestEveryLayerOfAConfinedProcessIsActive(t *testing.T) {
	layers := Layers(jailed(t), host())
	if len(layers) != len(Kinds)+3 {
		t.Errorf("%d layers: %v", len(layers), layers)
	}
	for name, o := range layers {
		if !o.Active || o.Observed == "" {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

// Each row takes one thing away; exactly the layer that stands for it must fall.
func TestALayerThatIsMissingIsSeen(t *testing.T) {
	type change struct {
		layer string
		take  func(*Posture)
	}
	changes := []change{
		{"no_new_privs", func(p *Posture) { p.Status.NoNewPrivs = false }},
		{"capabilities", func(p *Posture) { p.Status.Effective = 1 << 21 }},
		{"capabilities", func(p *Posture) { p.Status.Bounding = 1 }},
		{"capabilities", func(p *Posture) { p.Status.Ambient = 1 }},
		{"capabilities", func(p *Posture) { p.Status.Inheritable = 1 }},
		{"capabilities", func(p *Posture) { p.Status.Permitted = 1 }},
		{"seccomp", func(p *Posture) { p.Status.Seccomp = 0 }},
		{"seccomp", func(p *Posture) { p.Status.Seccomp = 1 }},
		{"userns", func(p *Posture) { p.UIDMap = "0 0 1" }},
		{"userns", func(p *Posture) { p.UIDMap = "0 100000 65536" }},
	}
	for kind, layer := range layerOf {
		changes = append(changes,
			change{layer, func(p *Posture) { p.Namespaces[kind] = host()[kind] }},
			change{layer, func(p *Posture) { delete(p.Namespaces, kind) }})
	}
	for i, c := range changes {
		p := jailed(t)
		c.take(&p)
		for name, o := range Layers(p, host()) {
			if o.Active == (name == c.layer) {
				t.Errorf("row %d takes away %s: %s is %+v", i, c.layer, name, o)
			}
		}
	}
}

func TestStatusMustBeWhole(t *testing.T) {
	for line := range strings.Lines(confined) {
		key, _, _ := strings.Cut(line, ":")
		_, err := parseStatus([]byte(strings.Replace(confined, line, "", 1)))
		needed := strings.Contains(" Tgid Uid Gid Groups NSpid Threads CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp ", " "+key+" ")
		if (err != nil) != needed {
			t.Errorf("without %s: error %v", key, err)
		}
	}
	for _, bad := range []string{strings.Replace(confined, "Seccomp:\t2", "Seccomp:\ttwo", 1), strings.Replace(confined, "CapEff:\t0", "CapEff:\tz", 1), "", "\x00\n:\n"} {
		if _, err := parseStatus([]byte(bad)); err == nil {
			t.Errorf("accepted %.40q", bad)
		}
	}
}

func TestCollectSeesThisProcess(t *testing.T) {
	p, err := Collect("/proc", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if p.Status.Tgid != os.Getpid() || p.Status.UID[1] != os.Geteuid() || p.UIDMap == "" {
		t.Errorf("posture = %+v", p)
	}
	for layer, o := range Layers(p, ReadNamespaces("/proc", os.Getpid())) {
		if strings.HasSuffix(layer, "ns") && o.Active {
			t.Errorf("%s counts as isolated from itself: %+v", layer, o)
		}
	}
	if _, err := Collect("/proc", 1<<30); err == nil {
		t.Error("a process that does not exist was observed")
	}
}

func TestParseNamespace(t *testing.T) {
	for link, want := range map[string]uint64{"mnt:[4026531841]": 4026531841, "mnt:4026531841": 0, "mnt:[x]": 0, "": 0, "[1]": 0, "mnt:[1": 0} {
		if got := parseNamespace(link); got != want {
			t.Errorf("parseNamespace(%q) = %d, want %d", link, got, want)
		}
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(confined))
	f.Add([]byte("Uid:\t1 2 3\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseStatus(data)
		if err != nil && (s.Tgid != 0 || s.NSpid != nil) {
			t.Errorf("both a status and an error: %+v, %v", s, err)
		}
	})
}

func BenchmarkCollect(b *testing.B) {
	for b.Loop() {
		if _, err := Collect("/proc", os.Getpid()); err != nil {
			b.Fatal(err)
		}
	}
}
