package jail

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
)

// IDs are who the jail is on the host.
type IDs struct{ UID, GID int }

// perRunBase is where the host ids of runs begin: far above what distributions
// hand out to users, services and subordinate ranges.
const perRunBase = 1_879_048_192

// idRange is a line of /proc/self/uid_map: ids of our own user namespace.
type idRange struct{ first, count uint64 }

// parseIDMap reads /proc/PID/uid_map (user_namespaces(7)).
func parseIDMap(data []byte) ([]idRange, error) {
	var out []idRange
	for line := range bytes.Lines(data) {
		f := bytes.Fields(line)
		if len(f) != 3 {
			return nil, fmt.Errorf("id map line %q: want three numbers", line)
		}
		first, err := strconv.ParseUint(string(f[0]), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("id map: %w", err)
		}
		count, err := strconv.ParseUint(string(f[2]), 10, 33)
		if err != nil {
			return nil, fmt.Errorf("id map: %w", err)
		}
		out = append(out, idRange{first, count})
	}
	return out, nil
}

// pickID chooses the host id of a run: as root an unprivileged one that no
// other live run has (n is unique among them, such as our pid), else our own.
func pickID(own int, root bool, n uint64, ranges []idRange) int {
	if !root {
		return own
	}
	mapped := func(id uint64) bool {
		for _, r := range ranges {
			if id >= r.first && id-r.first < r.count {
				return true
			}
		}
		return false
	}
	if id := perRunBase + n; id < math.MaxInt32 && mapped(id) {
		return int(id)
	}
	// Inside a container with a small map: from its upper half, where no
	// account is.
	for i := len(ranges) - 1; i >= 0; i-- {
		if r := ranges[i]; r.count >= 4096 {
			return int(r.first + r.count/2 + n%(r.count/2))
		}
	}
	if mapped(65534) {
		return 65534
	}
	return own
}
