// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package pki keeps the cluster's certificate authorities and the certificates signed by them.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"slices"
	"time"

	"homelab.gpu/lab/distribution/internal/atomicfile"
)

const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	certLifetime = 365 * 24 * time.Hour
	renewBefore  = 120 * 24 * time.Hour
)

// CA is a certificate authority kept in <base>.crt and <base>.key.
type CA struct {
	PEM  []byte
	cert *x509.Certificate
	key  crypto.Signer
}

// Request says what a certificate is for.
type Request struct {
	CommonName   string
	Organization []string
	Names        []string // DNS names and IP addresses
	Usage        []x509.ExtKeyUsage
}

// Common usages.
var (
	ClientUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	ServerUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	PeerUsage   = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
)

// EnsureCA loads the authority at base or makes it.
func EnsureCA(base, name string) (*CA, error) {
	if _, err := os.Stat(base + ".crt"); errors.Is(err, os.ErrNotExist) {
		if err := createCA(base, name); err != nil {
			return nil, fmt.Errorf("create CA %s: %w", name, err)
		}
	}
	return LoadCA(base)
}

// LoadCA loads the authority at base.
func LoadCA(base string) (*CA, error) {
	pemCert, cert, err := readCert(base + ".crt")
	if err != nil {
		return nil, err
	}
	key, err := readKey(base + ".key")
	if err != nil {
		return nil, err
	}
	return &CA{PEM: pemCert, cert: cert, key: key}, nil
}

func createCA(base, name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: fmt.Sprintf("%s@%d", name, now.Unix())},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(caLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if err := writeKey(base+".key", key); err != nil {
		return err
	}
	return atomicfile.Write(base+".crt", encodeCert(der), 0o644)
}

// Ensure keeps <base>.crt and <base>.key valid for the request and makes them anew where they are not.
func (ca *CA) Ensure(base string, r Request) error {
	if ca.stillGood(base, r, time.Now()) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := ca.sign(key.Public(), r)
	if err != nil {
		return fmt.Errorf("sign %s: %w", r.CommonName, err)
	}
	if err := writeKey(base+".key", key); err != nil {
		return err
	}
	return atomicfile.Write(base+".crt", cert, 0o644)
}

func (ca *CA) stillGood(base string, r Request, now time.Time) bool {
	_, cert, err := readCert(base + ".crt")
	if err != nil {
		return false
	}
	key, err := readKey(base + ".key")
	if err != nil {
		return false
	}
	public, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || !public.Equal(key.Public()) || cert.CheckSignatureFrom(ca.cert) != nil || now.Add(renewBefore).After(cert.NotAfter) {
		return false
	}
	var names []string
	names = append(names, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return cert.Subject.CommonName == r.CommonName && sameSet(cert.Subject.Organization, r.Organization) && sameSet(names, r.Names)
}

func sameSet(a, b []string) bool {
	norm := func(in []string) []string {
		out := slices.Clone(in)
		slices.Sort(out)
		return slices.Compact(out)
	}
	return slices.Equal(norm(a), norm(b))
}

// SignCSR signs the public key of a PEM certificate request; subject and names are those of r, never those of the request.
func (ca *CA) SignCSR(csrPEM []byte, r Request) ([]byte, error) {
	block, _ := pem.Decode(csrPEM)
	if block == nil {
		return nil, errors.New("no PEM certificate request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	return ca.sign(csr.PublicKey, r)
}

func (ca *CA) sign(public crypto.PublicKey, r Request) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: r.CommonName, Organization: r.Organization},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(certLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:  r.Usage,
	}
	for _, name := range r.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, public, ca.key)
	if err != nil {
		return nil, err
	}
	return encodeCert(der), nil
}

// EnsureKey keeps a private key at path.
func EnsureKey(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	return writeKey(path, key)
}

// NewCSR makes a certificate request with the private key at keyPath, which is made if it is missing.
func NewCSR(keyPath, commonName string) ([]byte, error) {
	if err := EnsureKey(keyPath); err != nil {
		return nil, err
	}
	key, err := readKey(keyPath)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: commonName}}, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return atomicfile.Write(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

func readCert(path string) ([]byte, *x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, nil, fmt.Errorf("%s: no PEM certificate", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, cert, nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM key", path)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}
