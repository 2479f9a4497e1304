package check

import (
	"math"
	"strings"
)

// What a secret looks like in plain text. Everything here reads bytes once and allocates nothing on the way to "no":
// it sees every environment variable, argument and ConfigMap line. It returns what kind of thing was found, and never the
// thing itself.

// tokenPrefixes are beginnings that only secrets have, with the number of token characters that must follow.
var tokenPrefixes = [...]struct {
	prefix string
	least  int
	what   string
}{
	{"AKIA", 16, "an AWS access key"}, {"ASIA", 16, "an AWS access key"}, {"ghp_", 36, "a GitHub token"}, {"gho_", 36, "a GitHub token"},
	{"ghs_", 36, "a GitHub token"}, {"ghu_", 36, "a GitHub token"}, {"github_pat_", 50, "a GitHub token"}, {"glpat-", 20, "a GitLab token"},
	{"xoxb-", 20, "a Slack token"}, {"xoxp-", 20, "a Slack token"}, {"xapp-", 20, "a Slack token"}, {"sk_live_", 20, "a Stripe key"},
	{"rk_live_", 20, "a Stripe key"}, {"AIza", 35, "a Google API key"}, {"hvs.", 20, "a Vault token"}, {"SG.", 40, "a SendGrid key"},
	{"npm_", 36, "an npm token"}, {"dop_v1_", 40, "a DigitalOcean token"}, {"AGE-SECRET-KEY-1", 40, "an age key"}, {"pypi-AgEI", 40, "a PyPI token"},
}

// tokenIn finds a secret by its form alone, anywhere in the text: a private key, a known token, a URL with a password.
func tokenIn(s string) string {
	if len(s) < 12 {
		return ""
	}
	if i := strings.Index(s, "-----BEGIN "); i >= 0 {
		end := min(len(s), i+64)
		if strings.Contains(s[i:end], "PRIVATE KEY-----") {
			return "a private key"
		}
	}
	for i := range tokenPrefixes {
		p := &tokenPrefixes[i]
		for at := 0; ; {
			k := strings.Index(s[at:], p.prefix)
			if k < 0 {
				break
			}
			at += k
			if (at == 0 || !tokenChar(s[at-1])) && tokenRun(s[at+len(p.prefix):]) >= p.least {
				return p.what
			}
			at += len(p.prefix)
		}
	}
	if i := strings.Index(s, "eyJ"); i >= 0 && (i == 0 || !tokenChar(s[i-1])) {
		// A JWT is three runs of base64url, the first two of them JSON objects.
		rest := s[i:]
		if n := tokenRun(rest); n < len(rest) && n > 10 && strings.HasPrefix(rest[n:], ".eyJ") {
			if m := tokenRun(rest[n+1:]); n+1+m < len(rest) && rest[n+1+m] == '.' && tokenRun(rest[n+m+2:]) > 10 {
				return "a signed token (JWT)"
			}
		}
	}
	return passwordInURL(s)
}

// passwordInURL finds scheme://user:password@host, where the password is not itself a reference.
func passwordInURL(s string) string {
	for {
		i := strings.Index(s, "://")
		if i < 0 {
			return ""
		}
		s = s[i+3:]
		end := strings.IndexAny(s, "/ \t\r\n\"'<>,;")
		if end < 0 {
			end = len(s)
		}
		auth := s[:end]
		at := strings.LastIndexByte(auth, '@')
		if at < 0 {
			continue
		}
		_, pw, ok := strings.Cut(auth[:at], ":")
		if ok && pw != "" && !reference(pw) {
			return "a URL with a password"
		}
	}
}

func tokenChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || isDigit(c) || c == '_' || c == '-'
}

func tokenRun(s string) int {
	n := 0
	for n < len(s) && tokenChar(s[n]) {
		n++
	}
	return n
}

// secretName reports whether a variable's, key's or flag's name says that its value is a secret. It reads the name as
// words: PASSWORD, dbPassword, db-password and api_key do; PASSWORD_FILE, tokenizer and SECRET_NAME do not.
func secretName(name string) bool {
	if len(name) > 128 {
		return false
	}
	var words [12]string
	n := 0
	start := 0
	add := func(end int) {
		if end > start && n < len(words) {
			words[n] = name[start:end]
			n++
		}
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case !tokenChar(c) || c == '_' || c == '-':
			add(i)
			start = i + 1
		case c >= 'A' && c <= 'Z' && i > start && name[i-1] >= 'a' && name[i-1] <= 'z':
			add(i)
			start = i
		}
	}
	add(len(name))
	if n == 0 {
		return false
	}
	switch last := words[n-1]; {
	case in(last, "file", "path", "dir", "name", "url", "uri", "host", "port", "ttl", "expiry", "expires", "expiration", "header", "length", "size", "ref",
		"type", "enabled", "count", "limit", "method", "algorithm", "issuer", "audience", "endpoint", "mount", "engine", "version", "field", "policy", "min",
		"max", "interval", "timeout", "hash", "alg", "id", "store", "provider", "class", "namespace", "prefix", "backend", "rotation", "lifetime", "seconds"):
		return false
	}
	for i := range n {
		w := words[i]
		if in(w, "password", "passwd", "pwd", "passphrase", "secret", "secrets", "token", "apikey", "credential", "credentials", "accesskey", "privatekey",
			"secretkey", "authtoken", "pgpassword", "pass") {
			return true
		}
		if i+1 < n && in(words[i+1], "key") && in(w, "api", "access", "private", "secret", "signing", "encryption", "auth", "master", "account") {
			return true
		}
	}
	return false
}

func in(w string, list ...string) bool {
	for _, x := range list {
		if len(w) == len(x) && strings.EqualFold(w, x) {
			return true
		}
	}
	return false
}

// reference reports a value that points at a secret or stands for one, and is none: $(VAR), ${VAR}, {{ .Values.x }},
// <placeholder>, a path, or nothing.
func reference(v string) bool {
	v = strings.TrimSpace(v)
	if v == "" || strings.HasPrefix(v, "$") || strings.HasPrefix(v, "{{") || strings.HasPrefix(v, "%(") || strings.HasPrefix(v, "<") && strings.HasSuffix(v, ">") ||
		strings.HasPrefix(v, "/") || strings.HasPrefix(v, "./") || strings.HasPrefix(v, "file:") || strings.HasPrefix(v, "vault:") || strings.HasPrefix(v, "ref+") ||
		strings.HasPrefix(v, "arn:") || strings.Trim(v, "*x.-") == "" {
		return true
	}
	return in(v, "true", "false", "null", "nil", "none", "yes", "no", "on", "off", "disabled", "enabled", "required", "optional", "redacted")
}

// secretValue reports whether a value under a secret's name is a secret, and says of what sort.
func secretValue(v string) (what string, ok bool) {
	if t := tokenIn(v); t != "" {
		return t, true
	}
	if reference(v) || strings.Contains(v, "://") {
		return "", false
	}
	if len(v) > 4096 || strings.Count(v, " ") > 4 {
		return "", false // prose
	}
	if number(v) && len(v) < 6 {
		return "", false // a length, a port, a time
	}
	if len(v) >= 16 && entropy(v) >= 3.5 {
		return "a random value", true
	}
	return "a value", true
}

func number(v string) bool {
	for i := range len(v) {
		if !isDigit(v[i]) {
			return false
		}
	}
	return true
}

// entropy is Shannon's, in bits a byte, of the bytes themselves.
func entropy(s string) float64 {
	var n [256]int
	for i := range len(s) {
		n[s[i]]++
	}
	h, l := 0.0, float64(len(s))
	for _, k := range n {
		if k > 0 {
			p := float64(k) / l
			h -= p * math.Log2(p)
		}
	}
	return h
}

// secretInLines finds the first line "name = value" or "name: value" whose name and value are a secret's, and gives the
// name. The value has to look random or carry a token: configuration speaks of passwords in many harmless ways.
func secretInLines(text string) (name, what string) {
	if len(text) > 1<<16 {
		text = text[:1<<16]
	}
	for text != "" {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		i := strings.IndexAny(line, "=:")
		if i <= 0 || i+1 >= len(line) {
			continue
		}
		k := strings.Trim(line[:i], " \t\"'-,{")
		if k == "" || k[0] == '#' || k[0] == ';' || strings.HasPrefix(k, "//") || strings.ContainsRune(k, ' ') || !secretName(k) {
			continue
		}
		v := strings.Trim(line[i+1:], " \t\r\"',}")
		if what, ok := secretValue(v); ok && (what != "a value" || len(v) >= 8 && entropy(v) >= 2.5) {
			return k, what
		}
	}
	return "", ""
}
