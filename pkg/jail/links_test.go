package jail

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMountsAreNotMadeThroughLinks: a granted folder is the host's, and another
// run that may write to it can put a link in the place of what was looked at
// (CVE-2021-30465; the races of 2025 over masked paths, CVE-2025-31133,
// CVE-2025-52565, CVE-2025-52881, are of the same kind). Here it does so after the
// plan and before the mounts.
func TestMountsAreNotMadeThroughLinks(t *testing.T) {
	for name, swap := range map[string]func(dir, victim string) error{
		"nothing": func(string, string) error { return nil },
		"the granted folder": func(dir, victim string) error {
			return errors.Join(os.Rename(dir+"/shared/sub/inner", dir+"/shared/sub/moved"), os.Symlink(victim, dir+"/shared/sub/inner"))
		},
		"a folder above it": func(dir, victim string) error {
			return errors.Join(os.Rename(dir+"/shared/sub", dir+"/shared/moved"), os.Symlink(filepath.Dir(victim), dir+"/shared/sub"))
		},
		"a folder above it that lacks it": func(dir, victim string) error {
			return errors.Join(os.Rename(dir+"/shared/sub", dir+"/shared/moved"), os.Symlink(dir+"/empty", dir+"/shared/sub"))
		},
	} {
		for _, write := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				victim := dir + "/victims/inner"
				for _, d := range []string{dir + "/shared/sub/inner", victim, dir + "/empty"} {
					if err := os.MkdirAll(d, 0o777); err != nil {
						t.Fatal(err)
					}
					if err := os.Chmod(d, 0o777); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.WriteFile(victim+"/secret", []byte("of the host"), 0o644); err != nil {
					t.Fatal(err)
				}
				r := newRequest(t, strict(), "import os\ninner = '"+dir+"/shared/sub/inner'\nprint(os.path.exists(inner + '/secret'))\ntry: open(inner + '/made', 'w')\nexcept OSError: pass\n")
				r.Read = []Grant{{Path: dir + "/shared/sub/inner", Dir: true}}
				if write {
					r.Read, r.Write = nil, []Grant{{Path: dir + "/shared", Dir: true}, {Path: dir + "/shared/sub/inner", Dir: true}}
				}
				in, err := enter(r, seams{plan: func(*Blueprint, *Spawn) {
					if err := swap(dir, victim); err != nil {
						t.Fatal(err)
					}
				}})
				if name == "nothing" {
					if err != nil || in.stdout != "False\n" {
						t.Errorf("without a link: %q, %v: the test shows nothing", in.stdout, err)
					}
					return
				}
				var failed *SetupError
				if !errors.As(err, &failed) || in.stdout != "" {
					t.Errorf("the jail stands: %v, and its script says %q", err, in.stdout)
				} else if failed.Errno != unix.ELOOP && failed.Errno != unix.ENOTDIR {
					t.Errorf("%v", failed)
				}
				for _, d := range []string{victim, dir + "/empty"} {
					entries, err := os.ReadDir(d)
					if err != nil {
						t.Fatal(err)
					}
					for _, e := range entries {
						if e.Name() != "secret" {
							t.Errorf("%s was made in %s", e.Name(), d)
						}
					}
				}
			})
		}
	}
}
