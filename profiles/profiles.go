// Package profiles holds the built-in profiles as files. A run does not read
// them: pkg/profile has them decoded, and a test there holds the two together.
// schema.json describes a profile file for editors; nothing embeds it.
package profiles

import "embed"

// FS has one YAML file per profile.
//
//go:embed *.yaml
var FS embed.FS
