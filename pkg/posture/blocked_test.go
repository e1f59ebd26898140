package posture

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadsInput(t *testing.T) {
	tests := []struct {
		name   string
		thread []string // what each thread's syscall file says
		want   bool
	}{
		{"in read(0)", []string{"0 0x0 0x7f19623ad000 0x20000 0x7f1962440b60 0xffffffff 0x0 0x7ffe89c846e8 0x7f19625292ad\n"}, true},
		{"in read(5)", []string{"0 0x5 0x7f19623ad000 0x20000 0x0 0x0 0x0 0x7ffe 0x7f19\n"}, false},
		{"in a futex", []string{"202 0x0 0x80 0x0 0x0 0x0 0x0 0x7ffe 0x7f19\n"}, false},
		{"running", []string{"running\n"}, false},
		{"in no call", []string{"-1 0x7ffe 0x7f19\n"}, false},
		{"one of several threads", []string{"202 0x0\n", "0 0x0 0x1 0x1\n"}, true},
		{"nothing at all", []string{""}, false},
	}
	if unix.SYS_READ != 0 {
		t.Fatal("the lines above are those of x86-64")
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			proc := t.TempDir()
			for i, text := range tt.thread {
				dir := filepath.Join(proc, "7", "task", string(rune('7'+i)))
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "syscall"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := ReadsInput(proc, 7)
			if got != tt.want || err != nil {
				t.Errorf("%v, %v; want %v", got, err, tt.want)
			}
		})
	}
	if _, err := ReadsInput(t.TempDir(), 7); err == nil {
		t.Error("a process that is gone: no error")
	}
}
