package spec

// rule is what a field must fulfil, as far as the field alone can say. Loading, the JSON Schema and docs/spec.md are all
// made from it, so that they cannot disagree. For a list it is about each element; for a mapping about each value.
type rule struct {
	required bool
	// empty allows the empty text.
	empty bool
	enum  []string
	is    *format
	// keys is for the names in a mapping.
	keys *format
	// min and max bound a number; max 0 means no bound is stated here.
	min, max int64
	// some asks for at least one element; unique refuses an element twice.
	some, unique bool
	// byDefault is what stands in the docs: the value, or words in parentheses.
	byDefault string
}

const (
	maxPort  = 65535
	maxUser  = 1<<31 - 1
	maxCount = 1_000_000
)

// rules has one entry for each field of the spec, "Type.field"; a test holds that. Types that have none are mappings
// whose fields have.
var rules = map[string]rule{
	"Platform.apiVersion": {required: true, enum: []string{APIVersion}},
	"Platform.kind":       {required: true, enum: []string{Kind}},
	"Platform.metadata":   {required: true},
	"Platform.spec":       {required: true},

	"Metadata.name": {required: true, is: platformName},

	"Spec.labelPrefix":  {is: labelDomain, byDefault: "(NAME.bulwark.dev)"},
	"Spec.kubernetes":   {is: minorVersion, byDefault: DefaultKubernetes},
	"Spec.chart":        {is: dnsLabel, byDefault: "(the platform's name)"},
	"Spec.has":          {enum: Features, unique: true, byDefault: "(nothing)"},
	"Spec.admission":    {},
	"Spec.trust":        {},
	"Spec.namespaces":   {required: true, some: true, keys: dnsLabel},
	"Spec.peers":        {keys: componentName},
	"Spec.mesh":         {byDefault: "(no mesh)"},
	"Spec.components":   {required: true, some: true, keys: componentName},
	"Spec.flows":        {byDefault: "(nothing may talk)"},
	"Spec.secrets":      {},
	"Spec.teams":        {keys: dnsLabel},
	"Spec.detection":    {},
	"Spec.response":     {},
	"Spec.notify":       {},
	"Spec.compliance":   {enum: Standards, unique: true},
	"Spec.exceptions":   {},
	"Spec.controlPlane": {},

	"ControlPlane.cidrs": {is: cidr, unique: true, byDefault: "(any address)"},
	"ControlPlane.ports": {min: 1, max: maxPort, unique: true, byDefault: "[443, 6443]"},

	"Admission.enforce": {enum: Engines, byDefault: "native"},
	"Admission.audit":   {enum: Engines, unique: true, byDefault: "(none)"},

	"Trust.registries":   {is: registry, unique: true, byDefault: "(the folders of the components' images)"},
	"Trust.signers":      {byDefault: "(no signature is asked for)"},
	"Trust.attestations": {enum: Attestations, unique: true, byDefault: "(none)"},

	"Signer.name":    {required: true, is: dnsLabel},
	"Signer.key":     {is: filePath},
	"Signer.keyless": {},

	"Keyless.issuer":  {required: true, is: issuer},
	"Keyless.subject": {required: true, is: subject},

	"Namespace.level":       {enum: Levels, byDefault: "high"},
	"Namespace.podSecurity": {enum: PodSecurityLevels, byDefault: "restricted"},

	"Peer.namespace":      {required: true, is: dnsLabel},
	"Peer.serviceAccount": {is: subdomain, byDefault: "(not known)"},
	"Peer.labels":         {keys: labelKey, is: labelValue, empty: true, byDefault: "(all pods of the namespace)"},
	"Peer.ports":          {keys: portName},
	"Peer.mesh":           {enum: []string{"sidecar", "ambient", "none"}, byDefault: "none"},

	"Mesh.kind": {enum: []string{"istio"}, byDefault: "istio"},
	"Mesh.mtls": {enum: []string{"strict", "permissive"}, byDefault: "strict"},

	"Port.port":     {required: true, min: 1, max: maxPort},
	"Port.protocol": {enum: []string{"TCP", "UDP", "SCTP"}, byDefault: "TCP"},
	"Port.mesh":     {enum: []string{"none"}, byDefault: "(as its component)"},

	"Component.namespace":      {is: dnsLabel, byDefault: "(the only namespace, if there is one)"},
	"Component.image":          {required: true, is: image},
	"Component.version":        {is: imageTag, byDefault: "(the image stays unlocked)"},
	"Component.base":           {is: baseImage},
	"Component.runtime":        {enum: Runtimes, byDefault: "(the container runtime's own syscall profile)"},
	"Component.kind":           {enum: Kinds, byDefault: "Deployment"},
	"Component.replicas":       {min: 0, max: 1000, byDefault: "1"},
	"Component.user":           {min: 0, max: maxUser, byDefault: "65532"},
	"Component.group":          {min: 0, max: maxUser, byDefault: "(as user)"},
	"Component.ports":          {keys: portName},
	"Component.writes":         {is: absolutePath, unique: true, byDefault: "(nothing)"},
	"Component.storage":        {keys: absolutePath, is: bytesQuantity},
	"Component.serviceAccount": {is: subdomain, byDefault: "(the component's name)"},
	"Component.mayAsk":         {byDefault: "(nothing; then no token is mounted)"},
	"Component.secrets":        {is: subdomain, unique: true},
	"Component.route":          {byDefault: "(not reached from outside)"},
	"Component.processes":      {is: process, unique: true, byDefault: "(the runtime's)"},
	"Component.syscalls":       {},
	"Component.mesh":           {enum: []string{"none"}, byDefault: "(as the platform)"},
	"Component.resources":      {},
	"Component.probe":          {is: probePath, byDefault: "(a TCP probe)"},

	"Syscalls.add": {required: true, some: true, unique: true, is: syscall},

	"Resources.cpu":         {is: cpuQuantity, byDefault: DefaultCPU},
	"Resources.memory":      {is: bytesQuantity, byDefault: DefaultMemory},
	"Resources.memoryLimit": {is: bytesQuantity, byDefault: DefaultMemoryLimit},

	"Ask.group":    {is: apiGroup, empty: true, byDefault: `"" (core)`},
	"Ask.resource": {required: true, is: apiResource},
	"Ask.names":    {is: objectName, unique: true, byDefault: "(all of the namespace)"},
	"Ask.verbs":    {required: true, some: true, unique: true, enum: Verbs},

	"Route.host":        {required: true, is: host},
	"Route.port":        {required: true, is: portName},
	"Route.tls":         {required: true},
	"Route.rateLimit":   {},
	"Route.cors":        {byDefault: "(no other origin)"},
	"Route.maxBody":     {is: bytesQuantity, byDefault: DefaultMaxBody},
	"Route.timeouts":    {},
	"Route.connections": {},
	"Route.gateway":     {is: componentName, byDefault: "(the only peer named gateway, ingress-nginx or istio-ingress)"},

	"TLS.min":    {enum: []string{"1.2", "1.3"}, byDefault: "1.3"},
	"TLS.secret": {required: true, is: subdomain},

	"RateLimit.requestsPerMinute": {min: 1, max: maxCount, byDefault: "1000"},
	"RateLimit.burst":             {min: 1, max: maxCount, byDefault: "(twice requestsPerMinute)"},

	"CORS.origins": {required: true, some: true, unique: true, is: origin},

	"Timeouts.header": {is: duration, byDefault: DefaultHeaderTimeout},
	"Timeouts.body":   {is: duration, byDefault: DefaultBodyTimeout},

	"Connections.perClient": {min: 1, max: maxCount, byDefault: "100"},

	"Flow.from": {required: true, some: true, unique: true, is: text},
	"Flow.to":   {required: true, some: true, unique: true, is: text},
	"Flow.http": {byDefault: "(any request, or no HTTP at all)"},

	"HTTPRule.methods": {enum: Methods, unique: true, byDefault: "(all)"},
	"HTTPRule.paths":   {is: requestPath, unique: true, byDefault: "(all)"},
	"HTTPRule.headers": {keys: headerName, is: headerValue},
	"HTTPRule.token":   {},

	"Token.issuer":    {required: true, is: issuer},
	"Token.audiences": {required: true, some: true, unique: true, is: text},

	"Secrets.store":    {byDefault: "(Secrets come from elsewhere)"},
	"Secrets.refresh":  {is: duration, byDefault: DefaultRefresh},
	"Secrets.rotation": {byDefault: "(no rotation)"},
	"Secrets.scan":     {byDefault: "(no scan)"},
	"Secrets.items":    {keys: subdomain},

	"Store.vault": {required: true},

	"VaultStore.peer":     {required: true, is: componentName},
	"VaultStore.mount":    {is: vaultMount, byDefault: "kubernetes"},
	"VaultStore.role":     {is: vaultName, byDefault: "(the platform's name)"},
	"VaultStore.audience": {is: vaultName, byDefault: "vault"},

	"Rotation.schedule": {required: true, is: cronLine},
	"Rotation.timeZone": {is: timeZone, byDefault: DefaultTimeZone},
	"Rotation.overlap":  {is: duration, byDefault: DefaultOverlap},

	"Schedule.schedule": {required: true, is: cronLine},
	"Schedule.timeZone": {is: timeZone, byDefault: DefaultTimeZone},

	"SecretItem.path":     {required: true, is: storePath},
	"SecretItem.keys":     {required: true, some: true, unique: true, is: secretKey},
	"SecretItem.template": {keys: secretKey, is: text},
	"SecretItem.rotates":  {},

	"Rotates.postgres": {required: true},

	"RotatesPostgres.component": {required: true, is: componentName},
	"RotatesPostgres.database":  {required: true, is: database},

	"Team.group": {required: true, is: teamGroup},
	"Team.may":   {required: true, enum: Rights},

	"Detection.rules": {is: ruleFile, unique: true, byDefault: "[builtin]"},
	"Detection.audit": {byDefault: "false"},

	"Response.when":   {required: true},
	"Response.do":     {required: true, some: true, unique: true, enum: Actions},
	"Response.budget": {is: budget, byDefault: DefaultBudget},

	"When.rule":      {required: true, is: text},
	"When.component": {is: componentName, unique: true, byDefault: "(all)"},

	"Notify.slack":     {},
	"Notify.pagerduty": {},

	"Slack.channel": {required: true, is: channel},
	"Slack.urlFrom": {required: true, is: subdomain},
	"Slack.atLeast": {enum: Severities, byDefault: "medium"},

	"PagerDuty.keyFrom": {required: true, is: subdomain},
	"PagerDuty.atLeast": {enum: Severities, byDefault: "critical"},

	"Exception.finding": {required: true, is: checkID},
	"Exception.on":      {required: true, is: text},
	"Exception.owner":   {required: true, is: text},
	"Exception.reason":  {required: true, is: text},
	"Exception.expires": {required: true, is: date},
}

// The words that fields accept, beside Features and Runtimes.
var (
	Engines           = []string{"native", "kyverno", "gatekeeper"}
	Attestations      = []string{"spdx", "cyclonedx", "vulnerabilities", "provenance"}
	Levels            = []string{"low", "medium", "high"}
	PodSecurityLevels = []string{"restricted", "baseline", "privileged"}
	Kinds             = []string{"Deployment", "StatefulSet", "DaemonSet"}
	Methods           = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
	Rights            = []string{"read", "operate", "audit"}
	Actions           = []string{"capture", "quarantine", "terminate"}
	Severities        = []string{"info", "low", "medium", "high", "critical"}
	Standards         = []string{"nist-800-53-r5-low", "nist-800-53-r5-moderate", "nist-800-53-r5-high", "cis-2.0-l1", "cis-2.0-l2", "pss-baseline", "pss-restricted", "owasp-container"}
	// Verbs that an Ask may have. Not "*", and not escalate, bind and impersonate: with these an account gives itself
	// every other right (Kubernetes, "RBAC good practices", privilege escalation risks).
	Verbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
)

// refused explains the words that somebody will try and that no list has, by field.
var refused = map[string]map[string]string{
	"Ask.verbs": {
		"*":           "grants what nobody thought of; write the verbs that are needed",
		"escalate":    "lets the account give itself any right; write the rights that it needs instead",
		"bind":        "lets the account take any role; write the rights that it needs instead",
		"impersonate": "lets the account act as anybody; write the rights that it needs instead",
	},
	"Ask.resource":     {"*": "grants what nobody thought of; write the resources that are needed, such as configmaps"},
	"Ask.group":        {"*": "grants what nobody thought of; write the API group that is needed"},
	"Spec.kubernetes":  {"latest": `changes what Pod Security means when the cluster is upgraded; write "` + DefaultKubernetes + `"`},
	"CORS.origins":     {"*": "lets every site read the answers; write the exact origins"},
	"HTTPRule.methods": {"*": "is what leaving methods out says", "TRACE": "echoes credentials; leave it out", "CONNECT": "opens tunnels; leave it out"},
}
