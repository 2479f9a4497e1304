package spec

import (
	"net/netip"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // so that a time zone means the same on a machine without zone files

	"github.com/robfig/cron/v3"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// format is a kind of text. The pattern is what an editor can check too, through the JSON Schema; check is the whole
// truth, and never accepts what the pattern refuses.
type format struct {
	// what completes "… is not": "a DNS label".
	what string
	// pattern is in the dialect that RE2 and ECMA 262 share.
	pattern string
	maxLen  int
	// never are words of the pattern that check refuses; the schema refuses them too.
	never []string
	// hint tells how to write it right.
	hint string
	// check gives the reason why a text that fits the pattern is still wrong, and a hint, or "".
	check func(s string) (why, hint string)
}

const (
	labelPattern     = `^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`
	subdomainPattern = `^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`
	// hostPattern is a registry's host: with a dot or a port, or localhost, because "library/nginx" has none.
	hostPattern  = `(localhost|[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+|[a-z0-9]([a-z0-9.-]*[a-z0-9])?:[0-9]{1,5}|\[[0-9a-f:]+\](:[0-9]{1,5})?)`
	repoPattern  = `[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*`
	tagPattern   = `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
	hostsAreDots = "begin with the registry's host, such as ghcr.io/ or docker.io/library/"
)

// flowWords begin what a flow may name that is neither component nor peer.
var flowWords = []string{"route", "dns", "cidr"}

var (
	text = &format{what: "text", pattern: `\S`}

	dnsLabel = &format{what: "a DNS label", pattern: labelPattern, maxLen: 63, hint: "use at most 63 of a-z, 0-9 and -, with a letter or digit at both ends"}

	platformName = &format{what: "a DNS label of at most 40 characters", pattern: labelPattern, maxLen: 40, hint: "use at most 40 of a-z, 0-9 and -, with a letter or digit at both ends"}

	// A Service must not begin with a digit (RFC 1035), and each component gets one.
	componentName = &format{what: "a name that a Service can have", pattern: `^[a-z]([a-z0-9-]*[a-z0-9])?$`, maxLen: 50, hint: "use at most 50 of a-z, 0-9 and -; begin with a letter", never: flowWords,
		check: func(s string) (string, string) {
			if contains(flowWords, s) {
				return "is a word of flows, not a name", "choose another name"
			}
			return "", ""
		}}

	subdomain = &format{what: "a DNS name", pattern: subdomainPattern, maxLen: 253, hint: "use a-z, 0-9, - and dots"}

	labelDomain = &format{what: "a DNS domain", pattern: `^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`, maxLen: 200, hint: "write a domain of yours, such as security.example.com",
		check: func(s string) (string, string) {
			for _, own := range []string{"kubernetes.io", "k8s.io"} {
				if s == own || strings.HasSuffix(s, "."+own) {
					return "belongs to Kubernetes", "write a domain of yours, such as security.example.com"
				}
			}
			return "", ""
		}}

	host = &format{what: "a host name", pattern: subdomainPattern, maxLen: 253, hint: "write one exact name, such as app.example.com, without scheme, port or *"}

	portName = &format{what: "a port name", pattern: `^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`, maxLen: 15, hint: "use at most 15 of a-z, 0-9 and -, with at least one letter",
		check: func(s string) (string, string) {
			if msgs := validation.IsValidPortName(s); len(msgs) > 0 {
				return "is not a port name", msgs[0]
			}
			return "", ""
		}}

	minorVersion = &format{what: "a minor version of Kubernetes", pattern: `^1\.[0-9]{2}$`, hint: `write it as "` + DefaultKubernetes + `", in quotes`,
		check: func(s string) (string, string) {
			switch {
			case s < "1.30":
				return "is too old: ValidatingAdmissionPolicy v1 came with 1.30", "upgrade the cluster first"
			case s > DefaultKubernetes:
				return "is newer than this build knows", "write " + DefaultKubernetes + ": Pod Security versions may be older than the cluster"
			}
			return "", ""
		}}

	registry = &format{what: "a registry", pattern: `^` + hostPattern + `(/` + repoPattern + `)?/?$`, hint: "write host/path/, without scheme, tag or *, such as ghcr.io/acme/"}

	image = &format{what: "an image", pattern: `^` + hostPattern + `/` + repoPattern + `$`, hint: hostsAreDots}

	baseImage = &format{what: "a base image with its tag", pattern: `^` + hostPattern + `/` + repoPattern + `:` + tagPattern + `$`, hint: "write host/path:tag",
		check: func(s string) (string, string) { return latest(s[strings.LastIndexByte(s, ':')+1:]) }}

	imageTag = &format{what: "an image tag", pattern: `^` + tagPattern + `$`, hint: "write the tag that the image was pushed with, such as 1.4.2", never: []string{"latest"}, check: latest}

	// Gateway API's form (GEP-2257), which Go reads too.
	duration = &format{what: "a duration", pattern: `^([0-9]{1,5}(h|m|s|ms)){1,4}$`, hint: "write 30s, 10m or 1h30m",
		check: func(s string) (string, string) {
			if d, err := time.ParseDuration(s); err != nil || d <= 0 {
				return "must be more than nothing", "write 30s, 10m or 1h30m"
			}
			return "", ""
		}}

	bytesQuantity = &format{what: "a number of bytes", pattern: `^[0-9]+(\.[0-9]+)?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$`, maxLen: 20, hint: "write 512Mi or 20Gi",
		check: func(s string) (string, string) {
			q, err := resource.ParseQuantity(s)
			if err != nil {
				return "is not a quantity", "write 512Mi or 20Gi"
			}
			if q.Sign() <= 0 {
				return "must be more than nothing", "write 512Mi or 20Gi"
			}
			if q.MilliValue()%1000 != 0 {
				return "is not a whole number of bytes", "write 512Mi or 20Gi"
			}
			return "", ""
		}}

	cpuQuantity = &format{what: "an amount of CPU", pattern: `^[0-9]+(\.[0-9]{1,3})?m?$`, maxLen: 20, hint: "write 100m or 2",
		check: func(s string) (string, string) {
			q, err := resource.ParseQuantity(s)
			if err != nil || q.Sign() <= 0 {
				return "must be more than nothing", "write 100m or 2"
			}
			return "", ""
		}}

	cronLine = &format{what: "a cron line of five fields", pattern: `^[^\s=@]+([ \t]+[^\s=@]+){4}$`, hint: `write minute, hour, day, month and weekday, such as "0 2 * * 0"; the zone goes into timeZone`,
		check: func(s string) (string, string) {
			line, err := cronParser.Parse(s)
			if err != nil {
				return "is not a cron line: " + err.Error(), `write minute, hour, day, month and weekday (0 is Sunday), such as "0 2 * * 0"`
			}
			// Next looks five years ahead. From a leap year's eve, that reaches a 29 February too.
			if line.Next(time.Date(2027, 12, 31, 0, 0, 0, 0, time.UTC)).IsZero() {
				return "never happens", "choose a day that the month has"
			}
			return "", ""
		}}

	timeZone = &format{what: "a time zone", pattern: `^[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$`, hint: "write a name of the IANA database, such as Etc/UTC or Europe/Berlin",
		check: func(s string) (string, string) {
			if _, err := time.LoadLocation(s); err != nil || s == "Local" {
				return "is not a time zone", "write a name of the IANA database, such as Etc/UTC or Europe/Berlin"
			}
			return "", ""
		}}

	date = &format{what: "a day", pattern: `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`, hint: "write YYYY-MM-DD",
		check: func(s string) (string, string) {
			if _, err := time.Parse(time.DateOnly, s); err != nil {
				return "is not in the calendar", "write YYYY-MM-DD"
			}
			return "", ""
		}}

	absolutePath = &format{what: "an absolute path", pattern: `^/[^\s:]*$`, hint: "begin with /",
		check: func(s string) (string, string) {
			if clean := path.Clean(s); clean != s {
				return "is not in its shortest form", "write " + clean
			}
			for _, own := range []string{"/proc", "/sys", "/dev", "/etc", "/var/run/secrets", "/run/secrets"} {
				if s == own || strings.HasPrefix(s, own+"/") {
					return "belongs to the system", "write below /var, /tmp or a folder of your own"
				}
			}
			if s == "/" {
				return "is the root file system, which stays read-only", "name the folders that are written"
			}
			return "", ""
		}}

	filePath = &format{what: "a path beside the spec", pattern: `^[^/\s\\][^\s\\]*$`, hint: "write it relative to the spec, such as keys/release.pub",
		check: func(s string) (string, string) {
			if clean := path.Clean(s); clean != s || clean == ".." || strings.HasPrefix(clean, "../") {
				return "leaves the spec's folder or is not in its shortest form", "write it relative to the spec, such as keys/release.pub"
			}
			return "", ""
		}}

	storePath = &format{what: "a path in the secret store", pattern: `^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$`, hint: "write it without a leading slash, such as acme/web/database"}

	secretKey = &format{what: "a key of a Secret", pattern: `^[-._a-zA-Z0-9]+$`, maxLen: 253, hint: "use letters, digits, -, _ and dots"}

	probePath = &format{what: "a path", pattern: `^/[^\s*]*$`, hint: "begin with /, such as /healthz"}

	requestPath = &format{what: "a path pattern", pattern: `^/[^\s*?#]*\*?$`, hint: "begin with /; only the last character may be *",
		check: func(s string) (string, string) {
			if clean := path.Clean(s); clean != s && clean+"/" != s {
				return "is not in its shortest form, so no request has it", "write " + clean
			}
			return "", ""
		}}

	headerName = &format{what: "a header's name", pattern: `^[a-z0-9][a-z0-9-]*$`, hint: "write it in lower case, as HTTP/2 does"}

	// Both engines know a value, a prefix* and *, and Istio also *suffix.
	headerValue = &format{what: "a header's value", pattern: `^(\*|\*?[^*\s][^*]*|[^*\s][^*]*\*)$`, hint: "write a value, prefix*, *suffix, or * for any"}

	issuer = &format{what: "an issuer", pattern: `^https://[^\s*?#|()\[\]{}^$\\]+$`, hint: "write one exact https address, such as https://login.example.com"}

	subject = &format{what: "an exact subject", pattern: `^[^\s*?|()\[\]{}^$\\]+$`, hint: "write one exact identity; a pattern would let others sign"}

	origin = &format{what: "an origin", pattern: `^https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$`, hint: "write an exact https origin without path, such as https://app.example.com"}

	cidr = &format{what: "a network", pattern: `^[0-9a-f.:]+/[0-9]{1,3}$`, hint: "write an address and a length, such as 10.0.0.0/24",
		check: func(s string) (string, string) {
			p, err := netip.ParsePrefix(s)
			switch {
			case err != nil:
				return "is not a network", "write an address and a length, such as 10.0.0.0/24"
			case p.Masked() != p:
				return "has bits behind its length", "write " + p.Masked().String()
			}
			return "", ""
		}}

	process = &format{what: "a process", pattern: `^/?[A-Za-z0-9_.+-]+(/[A-Za-z0-9_.+-]+)*$`, hint: "write the executable's name or its absolute path"}

	syscall = &format{what: "a system call", pattern: `^[a-z_][a-z0-9_]*$`, hint: "write the kernel's name of it, such as io_uring_setup"}

	apiGroup = &format{what: "an API group", pattern: `^([a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)?$`, hint: `write it without a version, such as apps; "" is the core group`}

	apiResource = &format{what: "a resource", pattern: `^[a-z][a-z0-9]*(/[a-z]+)?$`, hint: "write one plural name in lower case, such as configmaps or pods/log; * would grant what nobody thought of"}

	objectName = &format{what: "an object's name", pattern: `^[^\s*/%]+$`, maxLen: 253, hint: "write the exact name"}

	teamGroup = &format{what: "a group", pattern: `^[^\s*]+$`, hint: "write the group as your identity provider says it",
		check: func(s string) (string, string) {
			if strings.HasPrefix(s, "system:") {
				return "is a group of Kubernetes itself", "name a group of your identity provider"
			}
			return "", ""
		}}

	labelKey = &format{what: "a label's key", pattern: `^[A-Za-z0-9]([A-Za-z0-9_./-]*[A-Za-z0-9])?$`, maxLen: 317, hint: "write prefix/name or name",
		check: func(s string) (string, string) {
			if msgs := validation.IsQualifiedName(s); len(msgs) > 0 {
				return "is not a label's key", msgs[0]
			}
			return "", ""
		}}

	labelValue = &format{what: "a label's value", pattern: `^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$`, maxLen: 63, hint: "use at most 63 letters, digits, -, _ and dots"}

	vaultMount = &format{what: "a mount", pattern: `^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$`, hint: "write it without auth/ and slashes at the ends, such as kubernetes"}

	vaultName = &format{what: "a name in the secret store", pattern: `^[A-Za-z0-9_][A-Za-z0-9_./:-]*$`, hint: "use letters, digits, -, _ and dots"}

	database = &format{what: "a database", pattern: `^[A-Za-z_][A-Za-z0-9_-]*$`, maxLen: 63, hint: "write the database's name, at most 63 characters"}

	channel = &format{what: "a channel", pattern: `^#[^\s#]+$`, maxLen: 81, hint: `write it in quotes, such as "#security"`}

	budget = &format{what: "a budget", pattern: `^[1-9][0-9]{0,3} pods? per (component|namespace|platform) per (minute|hour|day)(, never the last ready one)?$`, hint: "write it as: " + DefaultBudget}

	checkID = &format{what: "a finding's ID", pattern: `^[a-z0-9]+(-[a-z0-9]+)*$`, hint: "write the ID that `bulwark validate` shows; patterns are not allowed"}

	ruleFile = &format{what: "builtin or a rule file", pattern: `^(builtin|[^/\s\\][^\s\\]*\.ya?ml)$`, hint: "write builtin, or a file beside the spec, such as rules/acme.yaml",
		check: func(s string) (string, string) { return filePath.check(s) }}
)

var cronParser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

func latest(tag string) (why, hint string) {
	if tag == "latest" {
		return "moves: latest is whatever was pushed last", "write the tag of a release"
	}
	return "", ""
}

var compiled sync.Map // pattern → *regexp.Regexp; a pure function of the pattern

// wrong gives the reason why s is not of the format, and a hint; or "".
func (f *format) wrong(s string) (why, hint string) {
	re, ok := compiled.Load(f.pattern)
	if !ok {
		re, _ = compiled.LoadOrStore(f.pattern, regexp.MustCompile(f.pattern))
	}
	if !re.(*regexp.Regexp).MatchString(s) || f.maxLen > 0 && len(s) > f.maxLen {
		return "is not " + f.what, f.hint
	}
	if f.check == nil {
		return "", ""
	}
	return f.check(s)
}
