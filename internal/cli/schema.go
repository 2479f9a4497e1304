package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/intelgraph/bulwark/internal/spec"
)

func newSchemaCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the Platform spec",
		Long: `Schema prints the JSON Schema (draft 2020-12) of the Platform spec, for editors and for other tools.

It knows what a field can say by itself. That the names in a spec exist, and that its layers do not contradict each
other, only loading knows: every command that reads a spec checks that.`,
		Example: `  bulwark schema > platform.schema.json

  # In the spec's first line, for editors with the YAML language server:
  # yaml-language-server: $schema=platform.schema.json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if _, err := app.Out.Write(spec.Schema()); err != nil {
				return Misuse(fmt.Errorf("write the schema: %w", err))
			}
			return nil
		},
	}
}
