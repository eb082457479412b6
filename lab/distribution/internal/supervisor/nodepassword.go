// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package supervisor

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// ErrRejected says that a known node came with another password.
var ErrRejected = errors.New("Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match server node-passwd entry, " +
	"try enabling a unique node name with the --with-node-id flag") //nolint:staticcheck // K3s' words; people search for them

const (
	passwordNamespace = metav1.NamespaceSystem
	passwordKey       = "hash"
	hashScheme        = "sha256"
)

// PasswordSecretName is the name of the Secret that remembers a node's password.
func PasswordSecretName(node string) string {
	return strings.ToLower(node + ".node-password.k3s")
}

// SecretPasswords keeps node passwords as hashes in Secrets.
type SecretPasswords struct {
	Client kubernetes.Interface
}

// Ensure implements Passwords.
func (p SecretPasswords) Ensure(ctx context.Context, node, password string) error {
	secrets := p.Client.CoreV1().Secrets(passwordNamespace)
	secret, err := secrets.Get(ctx, PasswordSecretName(node), metav1.GetOptions{})
	if err == nil {
		if !verify(string(secret.Data[passwordKey]), password) {
			return ErrRejected
		}
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("node password of %s: %w", node, err)
	}
	hash, err := hashPassword(password)
	if err != nil {
		return err
	}
	immutable := true
	_, err = secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: PasswordSecretName(node), Namespace: passwordNamespace},
		Immutable:  &immutable,
		Data:       map[string][]byte{passwordKey: []byte(hash)},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return p.Ensure(ctx, node, password)
	}
	if err != nil {
		return fmt.Errorf("remember node password of %s: %w", node, err)
	}
	return nil
}

// hashPassword needs no slow hash: node passwords are 128 random bits.
func hashPassword(password string) (string, error) {
	salt := make([]byte, 8)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	return saltedHash(salt, password), nil
}

func saltedHash(salt []byte, password string) string {
	sum := sha256.Sum256(append(append([]byte{}, salt...), password...))
	return strings.Join([]string{hashScheme, hex.EncodeToString(salt), hex.EncodeToString(sum[:])}, ":")
}

func verify(hash, password string) bool {
	parts := strings.Split(hash, ":")
	if len(parts) != 3 || parts[0] != hashScheme {
		return false
	}
	salt, err := hex.DecodeString(parts[1])
	if err != nil {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(saltedHash(salt, password)), []byte(hash)) == 1
}
