// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package token

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var hash = strings.Repeat("ab", 32)

func TestParse(t *testing.T) {
	tests := map[string]struct {
		text    string
		want    Token
		wantErr string
	}{
		"short":                      {text: "secret", want: Token{"", NodeUser, "secret"}},
		"short with user":            {text: "server:secret", want: Token{"", ServerUser, "secret"}},
		"white space around":         {text: " secret\n", want: Token{"", NodeUser, "secret"}},
		"secure":                     {text: "K10" + hash + "::server:secret", want: Token{hash, ServerUser, "secret"}},
		"secure, upper case hash":    {text: "K10" + strings.ToUpper(hash) + "::node:secret", want: Token{hash, NodeUser, "secret"}},
		"secure without user":        {text: "K10" + hash + "::secret", want: Token{hash, NodeUser, "secret"}},
		"password with a colon":      {text: "K10" + hash + "::server:a:b", want: Token{hash, ServerUser, "a:b"}},
		"empty":                      {text: " ", wantErr: "empty"},
		"secure without separator":   {text: "K10" + hash + ":server:x", wantErr: "'::'"},
		"secure with a short hash":   {text: "K10abcd::server:x", wantErr: "hex digits"},
		"secure with no hex":         {text: "K10" + strings.Repeat("zz", 32) + "::server:x", wantErr: "hex digits"},
		"secure with no password":    {text: "K10" + hash + "::server:", wantErr: "password"},
		"somebody else's user":       {text: "admin:x", wantErr: "user"},
		"secure, somebody else user": {text: "K10" + hash + "::admin:x", wantErr: "user"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(tt.text, NodeUser)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("got %v, want an error about %s", err, tt.wantErr)
				}
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("the error shows the token: %v", err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestSecureRoundTrip(t *testing.T) {
	ca := []byte("-----BEGIN CERTIFICATE-----\n")
	made := Token{User: ServerUser, Password: "p"}.Secure(ca)
	got, err := Parse(made, NodeUser)
	if err != nil || got.Password != "p" || got.User != ServerUser {
		t.Fatalf("%s: %+v, %v", made, got, err)
	}
	if err := got.CheckCA(ca); err != nil {
		t.Error(err)
	}
	if err := got.CheckCA([]byte("another")); err == nil || !strings.Contains(err.Error(), "does not match") {
		t.Errorf("another CA: %v", err)
	}
	if err := (Token{Password: "p"}).CheckCA([]byte("any")); err != nil {
		t.Errorf("a short token is bound to no CA: %v", err)
	}
}

func TestMatches(t *testing.T) {
	token := Token{Password: "abc"}
	for password, want := range map[string]bool{"abc": true, "abd": false, "ab": false, "": false} {
		if token.Matches(password) != want {
			t.Errorf("%q: want %v", password, want)
		}
	}
}

func TestRandomDiffers(t *testing.T) {
	a, err := Random()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Random()
	if err != nil {
		t.Fatal(err)
	}
	if a == b || len(a) != 32 {
		t.Errorf("%q, %q", a, b)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"good": "x\n", "empty": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := ReadFile(filepath.Join(dir, "good")); got != "x" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, name := range []string{"empty", "missing"} {
		if _, err := ReadFile(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
