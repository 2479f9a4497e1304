// Package attack is the corpus of what must not succeed: each attack is data, with a harmless twin that differs from it
// in one field and must be let through. Nothing here tries anything; engines do (package prove).
package attack

import (
	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Attack is one attempt, with its twin.
type Attack struct {
	// ID is stable: CLASS/NAME/FORM, with @NAMESPACE where it is repeated in others.
	ID       string
	Layer    artifact.Layer
	Title    string
	Severity finding.Severity
	// Intended names the control that must refuse it: podsecurity/NAMESPACE, policy/ID, rbac, network.
	Intended string
	// Platform is whose control it is: another platform's policy of the same ID is not meant.
	Platform string
	// Says lists texts of which one must occur in the refusal beside the control's own name, so that a refusal for another
	// reason, such as an expression that failed, does not count.
	Says      []string
	Fix       string
	Standards []string
	// Differs is the field in which the twin differs.
	Differs string
	Attempt Request
	Twin    Request
}

// Verb is what a request does.
type Verb string

// The verbs that engines know.
const (
	// Create asks the API server to admit Object (never persisted).
	Create Verb = "create"
	// Debug adds the ephemeral containers of Object's spec to a running pod (never persisted).
	Debug Verb = "debug"
	// Patch merges Patch into an existing object, or one that it Needs (never persisted).
	Patch Verb = "patch"
	// Delete removes an existing object (never persisted).
	Delete Verb = "delete"
	// Ask asks the authorizer, as the identity itself, whether Access is allowed.
	Ask Verb = "ask"
	// Connect opens a connection from one workload to another.
	Connect Verb = "connect"
)

// Request is what is tried.
type Request struct {
	As   Identity
	Verb Verb
	// Group, Version, Resource and Subresource address the API; Namespace and Name the object.
	Group, Version, Resource, Subresource string
	Namespace, Name                       string
	// Object is the whole object for Create and Debug.
	Object map[string]any
	// Needs is the pod that must be there for the request to mean anything; `prove` makes it while it runs. It never runs.
	Needs map[string]any
	// Patch is a JSON merge patch.
	Patch map[string]any
	// Access is the question for Ask: the verb asked about; the rest stands in the fields above.
	Access string
	// From and To name the ends of a connection, for Connect.
	From, To string
}

// Identity is who tries. Engines impersonate it.
type Identity struct {
	User   string
	Groups []string
}

// The identities of the corpus that are no team and no account.
var (
	// Deployer may create workloads in the platform's namespaces, and nothing that guards them. `prove` gives it these
	// rights for as long as it runs: a user without them would make RBAC refuse attack and twin alike.
	Deployer = Identity{User: "bulwark:deployer", Groups: []string{"bulwark:deployers", "system:authenticated"}}
	// Careless is a deployer whose role was written too wide: it may also patch namespaces and delete policies.
	Careless = Identity{User: "bulwark:careless-deployer", Groups: []string{"bulwark:careless-deployers", "system:authenticated"}}
)

// ServiceAccount gives a service account's identity, with the groups that the API server gives it.
func ServiceAccount(namespace, name string) Identity {
	return Identity{
		User:   "system:serviceaccount:" + namespace + ":" + name,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
}

// Team gives the identity of an unnamed member of a group.
func Team(group string) Identity {
	return Identity{User: "bulwark:member-of-" + group, Groups: []string{group, "system:authenticated"}}
}
