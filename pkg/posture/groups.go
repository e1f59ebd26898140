package posture

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/sbxproject/sbx/pkg/pseudofs"
)

// Groups reads in which control group a process is: the last part of its path by
// controller, "" standing for the one hierarchy of cgroup v2 (cgroups(7)).
func Groups(procRoot string, pid int) (map[string]string, error) {
	data, err := pseudofs.ReadFile(procRoot + "/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return nil, fmt.Errorf("observe process: %w", err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		for controller := range strings.SplitSeq(f[1], ",") {
			out[controller] = path.Base(f[2])
		}
	}
	return out, nil
}
