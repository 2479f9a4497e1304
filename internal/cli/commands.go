package cli

import "github.com/spf13/cobra"

// commands lists every command; there is no other registration.
func commands(app *App) []*cobra.Command {
	return []*cobra.Command{
		newSchemaCommand(app),
		newLockCommand(app),
		newRenderCommand(app),
		newValidateCommand(app),
		newDeployCommand(app),
		newProveCommand(app),
		newReportCommand(app),
	}
}
