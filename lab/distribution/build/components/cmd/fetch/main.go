// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Fetch is the HTTP client of the lab's tools image: one request, the body to standard output.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	exitOK       = 0
	exitFailed   = 1  // no complete answer
	exitUsage    = 2  // bad command line
	exitHTTPCode = 22 // an answer of 400 or above, as curl --fail has it
)

type headers http.Header

func (h headers) String() string { return "" }

func (h headers) Set(value string) error {
	name, content, found := strings.Cut(value, ":")
	if !found || strings.TrimSpace(name) == "" {
		return errors.New("must be NAME: VALUE")
	}
	http.Header(h).Add(strings.TrimSpace(name), strings.TrimSpace(content))
	return nil
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, problems io.Writer) int {
	sent := headers{}
	flags := flag.NewFlagSet("fetch", flag.ContinueOnError)
	flags.SetOutput(problems)
	timeout := flags.Duration("timeout", 10*time.Second, "limit for the whole request")
	method := flags.String("method", "", "request method (default GET, with -data POST)")
	data := flags.String("data", "", "request body")
	insecure := flags.Bool("insecure", false, "accept any server certificate")
	status := flags.Bool("status", false, "print the status code before the body, on a line of its own")
	flags.Var(sent, "header", "`NAME: VALUE` to send (repeatable)")
	if err := flags.Parse(args); err != nil {
		return exitUsage
	}
	if flags.NArg() != 1 {
		fmt.Fprintln(problems, "fetch: give exactly one URL after the options")
		return exitUsage
	}
	if *method == "" {
		*method = http.MethodGet
		if *data != "" {
			*method = http.MethodPost
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, *method, flags.Arg(0), strings.NewReader(*data))
	if err != nil {
		fmt.Fprintln(problems, "fetch:", err)
		return exitUsage
	}
	request.Header = http.Header(sent)
	if host := request.Header.Get("Host"); host != "" {
		request.Host = host
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: *insecure}}}
	response, err := client.Do(request)
	if err != nil {
		fmt.Fprintln(problems, "fetch:", err)
		return exitFailed
	}
	defer response.Body.Close()
	if *status {
		fmt.Fprintln(out, response.StatusCode)
	}
	if _, err := io.Copy(out, response.Body); err != nil {
		fmt.Fprintln(problems, "fetch:", err)
		return exitFailed
	}
	if response.StatusCode >= http.StatusBadRequest {
		fmt.Fprintln(problems, "fetch:", response.Status)
		return exitHTTPCode
	}
	return exitOK
}
