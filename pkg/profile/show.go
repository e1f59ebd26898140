package profile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/goccy/go-yaml"
)

// Show is the whole policy as YAML, with everything that it inherits. It can be
// used as a profile of its own.
func (p Profile) Show() (string, error) {
	p.Extends = ""
	out, err := yaml.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("encode profile: %w", err)
	}
	return string(out), nil
}

// SHA256 identifies the effective policy: equal for two profiles that say the
// same, wherever they got it from.
func (p Profile) SHA256() string {
	p.Extends = ""
	data, err := json.Marshal(p)
	if err != nil {
		return "" // a struct of plain values always encodes
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
