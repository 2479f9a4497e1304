package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/intelgraph/bulwark/internal/source"
	"github.com/intelgraph/bulwark/internal/spec"
)

// platformUsage is the help of the -f flag of every command that reads a spec.
const platformUsage = "the Platform `file` (default: platform.yaml here, else the only platforms/*/platform.yaml)"

// platformFlag adds -f/--file to a command.
func platformFlag(c *cobra.Command, file *string) {
	c.Flags().StringVarP(file, "file", "f", "", platformUsage)
}

// findPlatform gives the spec's file: the one that was named, else ./platform.yaml, else the only
// platforms/*/platform.yaml below the working folder. Which of several is meant is never guessed.
func findPlatform(file string) (string, error) {
	if file != "" {
		return file, nil
	}
	if _, err := os.Stat("platform.yaml"); err == nil {
		return "platform.yaml", nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", Misuse(err)
	}
	found, err := filepath.Glob(filepath.Join("platforms", "*", "platform.yaml"))
	if err != nil {
		return "", Misuse(err)
	}
	switch len(found) {
	case 0:
		return "", Misuse(errors.New("no platform.yaml here and none in platforms/*/; name the spec with -f"))
	case 1:
		return filepath.ToSlash(found[0]), nil
	}
	return "", Misuse(fmt.Errorf("%d specs in platforms/; name the one that is meant with -f: %s", len(found), strings.Join(found, ", ")))
}

// lockFile is the lock beside a spec.
func lockFile(platform string) string {
	return filepath.Join(filepath.Dir(platform), "platform.lock")
}

// loadPlatform loads the spec that -f names (see findPlatform) and the lock beside it. The lock is nil when there is
// none, and holds only what the spec still asks for. Errors carry ExitMisuse.
func loadPlatform(path string) (*spec.Platform, *spec.Lock, error) {
	file, err := findPlatform(path)
	if err != nil {
		return nil, nil, err
	}
	p, err := spec.Load(file)
	if err != nil {
		return nil, nil, Misuse(badSpec(err))
	}
	lock, err := spec.LoadLock(lockFile(file))
	if err != nil {
		return nil, nil, Misuse(badSpec(err))
	}
	return p, lock.For(p), nil
}

// badSpec puts the errors of a spec on lines of their own, after a line that counts them, as compilers do.
func badSpec(err error) error {
	var errs source.Errors
	if !errors.As(err, &errs) || len(errs) < 2 {
		return err
	}
	return fmt.Errorf("%d errors\n%w", len(errs), errs)
}
