// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package components

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/cli/globalflag"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/component-base/version/verflag"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	basecompatibility "k8s.io/component-base/compatibility"

	"homelab.gpu/lab/distribution/internal/supervisor"
)

// SupervisorEnv names the file with the supervisor's settings.
const SupervisorEnv = "HOMELAB_LAB_SUPERVISOR"

// SupervisorSettings is the content of that file.
type SupervisorSettings struct {
	DataDir string                   `json:"dataDir"`
	Cluster supervisor.ClusterConfig `json:"cluster"`
}

// newAPIServerCommand is upstream's command with the supervisor's paths in front of the API, on the same port.
func newAPIServerCommand() *cobra.Command {
	s := options.NewServerRunOptions()
	ctx := genericapiserver.SetupSignalContext()
	registry := s.GenericServerRunOptions.ComponentGlobalsRegistry
	cmd := &cobra.Command{
		Use:          APIServer,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			rest.SetDefaultWarningHandler(rest.NoWarnings{})
			return registry.Set()
		},
		RunE: func(*cobra.Command, []string) error {
			verflag.PrintAndExitIfRequested()
			if err := logsapi.ValidateAndApply(s.Logs, registry.FeatureGateFor(basecompatibility.DefaultKubeComponent)); err != nil {
				return err
			}
			completed, err := s.Complete(ctx)
			if err != nil {
				return err
			}
			if errs := completed.Validate(); len(errs) != 0 {
				return utilerrors.NewAggregate(errs)
			}
			registry.AddMetrics()
			return runAPIServer(ctx, completed)
		},
	}
	cmd.SetContext(ctx)
	sets := s.Flags()
	verflag.AddFlags(sets.FlagSet("global"))
	globalflag.AddGlobalFlags(sets.FlagSet("global"), cmd.Name(), logs.SkipLoggingConfigurationFlags())
	for _, f := range sets.FlagSets {
		cmd.Flags().AddFlagSet(f)
	}
	cliflag.SetUsageAndHelpFunc(cmd, sets, 0)
	return cmd
}

func runAPIServer(ctx context.Context, o options.CompletedOptions) error {
	config, err := apiserver.NewConfig(o)
	if err != nil {
		return err
	}
	loopback := config.KubeAPIs.ControlPlane.Generic.LoopbackClientConfig
	completed, err := config.Complete()
	if err != nil {
		return err
	}
	server, err := apiserver.CreateServerChain(completed)
	if err != nil {
		return err
	}
	wrap, err := newSupervisor(os.Getenv(SupervisorEnv), loopback)
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	handler := server.GenericAPIServer.Handler
	handler.FullHandlerChain = wrap(handler.FullHandlerChain)
	prepared, err := server.PrepareRun()
	if err != nil {
		return err
	}
	return prepared.Run(ctx)
}

func newSupervisor(path string, loopback *rest.Config) (func(http.Handler) http.Handler, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var settings SupervisorSettings
	if err := json.Unmarshal(b, &settings); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	client, err := kubernetes.NewForConfig(loopback)
	if err != nil {
		return nil, err
	}
	s := &supervisor.Supervisor{
		DataDir:   settings.DataDir,
		Config:    settings.Cluster,
		Passwords: supervisor.SecretPasswords{Client: client},
		Ready: func(ctx context.Context) error {
			return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		},
	}
	return s.Wrap, nil
}
