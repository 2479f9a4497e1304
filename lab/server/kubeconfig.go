package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// contextName names the cluster and the context in the kubeconfig.
const contextName = "bulwark-lab"

// checkReplaceable returns an error if path holds anything but the kubeconfig of
// an earlier lab: a mistyped --kubeconfig must not cost somebody the access to
// their clusters.
func checkReplaceable(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil || len(config.Contexts) != 1 || config.CurrentContext != contextName {
		return fmt.Errorf("file %s exists and is not the kubeconfig of a lab: name another, or remove it", path)
	}
	return nil
}

// writeKubeconfig writes the admin's kubeconfig in one step, so that a reader
// who waits for it never sees half of it.
func writeKubeconfig(path, url string, c certificates) error {
	config := clientcmdapi.NewConfig()
	config.Clusters[contextName] = &clientcmdapi.Cluster{Server: url, CertificateAuthorityData: c.ca}
	config.AuthInfos["admin"] = &clientcmdapi.AuthInfo{ClientCertificateData: c.admin.cert, ClientKeyData: c.admin.key}
	config.Contexts[contextName] = &clientcmdapi.Context{Cluster: contextName, AuthInfo: "admin"}
	config.CurrentContext = contextName
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("encode the kubeconfig: %w", err)
	}
	if err := WriteFileAtomic(path, data); err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	return nil
}

// WriteFileAtomic writes data to path with mode 0600: a reader sees the old file
// or the whole new one. The directory must exist.
func WriteFileAtomic(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".bulwark-lab-") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
