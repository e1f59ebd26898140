package posture

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func TestGroups(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "7"), 0o755); err != nil {
		t.Fatal(err)
	}
	const text = "5:cpu,cpuacct:/outer/sbx-1-2-3-4\n3:memory:/sbx-1-2-3-4\n2:pids:/\n1:name=systemd:/a:b\nno line\n0::/user/x\n"
	if err := os.WriteFile(filepath.Join(root, "7", "cgroup"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Groups(root, 7)
	want := map[string]string{"cpu": "sbx-1-2-3-4", "cpuacct": "sbx-1-2-3-4", "memory": "sbx-1-2-3-4", "pids": "/", "name=systemd": "a:b", "": "x"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if _, err := Groups(root, 8); err == nil {
		t.Error("a process that is not there is in a group")
	}
}
