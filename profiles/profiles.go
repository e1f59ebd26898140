// Package profiles holds the built-in profiles as files.
package profiles

import "embed"

// FS has one YAML file per profile.
//
//go:embed *.yaml
var FS embed.FS
