// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func ensureCA(t *testing.T, base string) *CA {
	t.Helper()
	ca, err := EnsureCA(base, "test-ca")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestCAStays(t *testing.T) {
	base := filepath.Join(t.TempDir(), "server-ca")
	first, second := ensureCA(t, base), ensureCA(t, base)
	if !bytes.Equal(first.PEM, second.PEM) {
		t.Error("the CA was made anew")
	}
	for suffix, mode := range map[string]os.FileMode{".crt": 0o644, ".key": 0o600} {
		info, err := os.Stat(base + suffix)
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", suffix, info.Mode(), err)
		}
	}
}

func TestEnsureRenewsOnlyWhatIsNotGoodAnyMore(t *testing.T) {
	dir := t.TempDir()
	ca := ensureCA(t, filepath.Join(dir, "ca"))
	request := Request{CommonName: "api", Organization: []string{"o"}, Names: []string{"a.example", "192.0.2.1"}, Usage: ServerUsage}
	tests := map[string]struct {
		ca     *CA
		change func(base string, r *Request)
		same   bool
	}{
		"unchanged":            {change: func(string, *Request) {}, same: true},
		"names in other order": {change: func(_ string, r *Request) { r.Names = []string{"192.0.2.1", "a.example", "a.example"} }, same: true},
		"another name":         {change: func(_ string, r *Request) { r.Names = append([]string{"b.example"}, r.Names...) }},
		"another subject":      {change: func(_ string, r *Request) { r.CommonName = "other" }},
		"another group":        {change: func(_ string, r *Request) { r.Organization = []string{"system:masters"} }},
		"a lost key":           {change: func(base string, _ *Request) { os.Remove(base + ".key") }},
		"a broken certificate": {change: func(base string, _ *Request) { os.WriteFile(base+".crt", []byte("x"), 0o644) }},
		"another CA":           {ca: ensureCA(t, filepath.Join(dir, "other")), change: func(string, *Request) {}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			base, r := filepath.Join(t.TempDir(), "cert"), request
			if err := ca.Ensure(base, r); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(base + ".crt")
			if err != nil {
				t.Fatal(err)
			}
			tt.change(base, &r)
			signer := ca
			if tt.ca != nil {
				signer = tt.ca
			}
			if err := signer.Ensure(base, r); err != nil {
				t.Fatal(err)
			}
			after, err := os.ReadFile(base + ".crt")
			if err != nil {
				t.Fatal(err)
			}
			if got := bytes.Equal(before, after); got != tt.same {
				t.Errorf("same certificate: %v, want %v", got, tt.same)
			}
		})
	}
}

func TestEnsureRenewsInTime(t *testing.T) {
	dir := t.TempDir()
	ca := ensureCA(t, filepath.Join(dir, "ca"))
	base, r := filepath.Join(dir, "cert"), Request{CommonName: "x", Usage: ClientUsage}
	if err := ca.Ensure(base, r); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for when, want := range map[time.Duration]bool{0: true, certLifetime - renewBefore - 2*time.Hour: true, certLifetime - renewBefore: false} {
		if got := ca.stillGood(base, r, now.Add(when)); got != want {
			t.Errorf("after %s: %v, want %v", when, got, want)
		}
	}
}

func TestSignCSRTakesSubjectFromTheServer(t *testing.T) {
	dir := t.TempDir()
	ca := ensureCA(t, filepath.Join(dir, "ca"))
	csr, err := NewCSR(filepath.Join(dir, "node.key"), "system:admin")
	if err != nil {
		t.Fatal(err)
	}
	signed, err := ca.SignCSR(csr, Request{CommonName: "system:node:n", Organization: []string{"system:nodes"}, Usage: ClientUsage})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(signed)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.CommonName != "system:node:n" {
		t.Errorf("subject %s", cert.Subject)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("a client certificate serves")
	}
	if _, err := ca.SignCSR([]byte("nothing"), Request{}); err == nil {
		t.Error("signed nothing")
	}
}

func TestNewCSRKeepsTheKey(t *testing.T) {
	key := filepath.Join(t.TempDir(), "k.key")
	if _, err := NewCSR(key, "n"); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(key)
	if _, err := NewCSR(key, "n"); err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(key)
	if !bytes.Equal(before, after) {
		t.Error("the key was made anew")
	}
}
