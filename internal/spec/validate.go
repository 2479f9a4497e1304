package spec

import (
	"regexp"

	"go.yaml.in/yaml/v3"

	"github.com/intelgraph/bulwark/internal/source"
)

var digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

type validator struct {
	p    *Platform
	file string
	root *yaml.Node
	errs source.Errors
}

func (v *validator) run() {
	v.p.complete()
}
