// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package token reads and writes join tokens in the short and in the secure (K10) form.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
)

const prefix = "K10"

// Users of the two roles that a token can stand for.
const (
	ServerUser = "server"
	NodeUser   = "node"
)

// Token is a parsed join token. CAHash is empty for the short form.
type Token struct {
	CAHash   string
	User     string
	Password string
}

// Parse reads a token; a short one belongs to defaultUser.
func Parse(s, defaultUser string) (Token, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Token{}, errors.New("token is empty")
	}
	t := Token{User: defaultUser, Password: s}
	if strings.HasPrefix(s, prefix) {
		hash, rest, found := strings.Cut(strings.TrimPrefix(s, prefix), "::")
		if !found {
			return Token{}, errors.New("secure token has no '::' after the CA hash")
		}
		if raw, err := hex.DecodeString(hash); err != nil || len(raw) != sha256.Size {
			return Token{}, fmt.Errorf("secure token: the CA hash must be %d hex digits", 2*sha256.Size)
		}
		t.CAHash, t.Password = strings.ToLower(hash), rest
	}
	if user, password, found := strings.Cut(t.Password, ":"); found {
		t.User, t.Password = user, password
	}
	if t.User != ServerUser && t.User != NodeUser {
		return Token{}, fmt.Errorf("token user must be %q or %q", ServerUser, NodeUser)
	}
	if t.Password == "" {
		return Token{}, errors.New("token has no password")
	}
	return t, nil
}

// HashCA is the hash of a CA bundle as it appears in secure tokens.
func HashCA(pem []byte) string {
	sum := sha256.Sum256(pem)
	return hex.EncodeToString(sum[:])
}

// Secure renders the token in the secure form for the given CA bundle.
func (t Token) Secure(ca []byte) string {
	return prefix + HashCA(ca) + "::" + t.User + ":" + t.Password
}

// CheckCA refuses a CA bundle that is not the one the token was made for.
func (t Token) CheckCA(ca []byte) error {
	if t.CAHash == "" {
		return nil
	}
	if hash := HashCA(ca); hash != t.CAHash {
		return fmt.Errorf("token CA hash does not match the Cluster CA certificate hash: %s != %s", t.CAHash, hash)
	}
	return nil
}

// Matches compares passwords in constant time.
func (t Token) Matches(password string) bool {
	return subtle.ConstantTimeCompare([]byte(t.Password), []byte(password)) == 1
}

// Random makes a new password.
func Random() (string, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return hex.EncodeToString(b), nil
}

// ReadFile reads a token kept in a file.
func ReadFile(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", fmt.Errorf("token file %s is empty", path)
	}
	return s, nil
}
