// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/missing":
			http.Error(w, "no such thing", http.StatusNotFound)
		case "/slow":
			<-r.Context().Done()
		default:
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s %s", r.Method, r.Host, r.Header.Get("X-Test"), body)
		}
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	for _, c := range []struct {
		name   string
		args   []string
		code   int
		out    string
		errout string
	}{
		{"get", []string{server.URL}, exitOK, "GET " + address + "  ", ""},
		{"post", []string{"-data", "x=1", server.URL}, exitOK, "POST " + address + "  x=1", ""},
		{"method", []string{"-method", "PUT", "-data", "y", server.URL}, exitOK, "PUT " + address + "  y", ""},
		{"headers", []string{"-header", "X-Test: a:b", "-header", "Host: example.test", server.URL}, exitOK, "GET example.test a:b ", ""},
		{"status", []string{"-status", server.URL + "/missing"}, exitHTTPCode, "404\nno such thing\n", "404 Not Found"},
		{"timeout", []string{"-timeout", "50ms", server.URL + "/slow"}, exitFailed, "", "deadline exceeded"},
		{"refused", []string{"http://127.0.0.1:1/"}, exitFailed, "", "connection refused"},
		{"bad header", []string{"-header", "nothing", server.URL}, exitUsage, "", "must be NAME: VALUE"},
		{"no url", nil, exitUsage, "", "exactly one URL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errout strings.Builder
			if code := run(c.args, &out, &errout); code != c.code {
				t.Errorf("exit code %d, want %d (%s)", code, c.code, errout.String())
			}
			if out.String() != c.out {
				t.Errorf("printed %q, want %q", out.String(), c.out)
			}
			if !strings.Contains(errout.String(), c.errout) {
				t.Errorf("complained %q, want %q", errout.String(), c.errout)
			}
		})
	}
}
