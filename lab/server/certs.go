package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
)

// certificateLifetime outlasts any test run; a lab that lives longer is a
// cluster, and should be one.
const certificateLifetime = 30 * 24 * time.Hour

// keyPair is a certificate and its private key, both in PEM.
type keyPair struct{ cert, key []byte }

// certificates are the credentials of one server, signed by its own authority,
// so that the admin of one lab is nobody in another.
type certificates struct {
	ca    []byte // PEM
	admin keyPair

	// Files in the server's directory.
	caFile, servingCertFile, servingKeyFile, tokenKeyFile string
}

// writeCertificates makes new credentials and writes to dir, mode 0600, those
// that the API server reads from files.
func writeCertificates(dir string) (certificates, error) {
	var c certificates
	ca, err := newAuthority()
	if err != nil {
		return c, err
	}
	c.ca = ca.pem
	serving, err := ca.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local"},
	})
	if err != nil {
		return c, err
	}
	// A client certificate's common name is the user and its organizations are
	// the groups: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates
	c.admin, err = ca.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "admin", Organization: []string{user.SystemPrivilegedGroup}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return c, err
	}
	tokenKey, err := newKey()
	if err != nil {
		return c, err
	}
	tokenKeyPEM, err := encodeKey(tokenKey)
	if err != nil {
		return c, err
	}

	for _, f := range []struct {
		path *string
		name string
		data []byte
	}{
		{&c.caFile, "ca.crt", c.ca},
		{&c.servingCertFile, "apiserver.crt", serving.cert},
		{&c.servingKeyFile, "apiserver.key", serving.key},
		{&c.tokenKeyFile, "service-account.key", tokenKeyPEM},
	} {
		*f.path = filepath.Join(dir, f.name)
		if err := os.WriteFile(*f.path, f.data, 0o600); err != nil {
			return c, fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	return c, nil
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority() (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "bulwark-lab"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if err := stamp(template); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the authority's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back the authority's certificate: %w", err)
	}
	return &authority{cert: cert, key: key, pem: encodeCertificate(der)}, nil
}

// sign completes template with a serial number, a lifetime and a new key.
func (a *authority) sign(template *x509.Certificate) (keyPair, error) {
	key, err := newKey()
	if err != nil {
		return keyPair{}, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	if err := stamp(template); err != nil {
		return keyPair{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return keyPair{}, fmt.Errorf("sign the certificate of %s: %w", template.Subject.CommonName, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return keyPair{}, err
	}
	return keyPair{cert: encodeCertificate(der), key: keyPEM}, nil
}

// stamp sets the serial number and the lifetime. It starts in the past because
// clocks of containers on one host differ by little, but they differ.
func stamp(template *x509.Certificate) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return fmt.Errorf("draw a serial number: %w", err)
	}
	now := time.Now()
	template.SerialNumber = serial
	template.NotBefore = now.Add(-time.Minute)
	template.NotAfter = now.Add(certificateLifetime)
	return nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("draw a key: %w", err)
	}
	return key, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
