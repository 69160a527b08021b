// Package specs is the conformance suite of the network policy API as a program: its tests, unchanged.
package specs

import (
	"flag"
	"os"
	"testing"

	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/yaml"

	policy "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/network-policy-api/conformance/tests"
	timeouts "sigs.k8s.io/network-policy-api/conformance/utils/config"
	"sigs.k8s.io/network-policy-api/conformance/utils/flags"
	"sigs.k8s.io/network-policy-api/conformance/utils/suite"
)

// The suite's own times hold where a flag is not given.
var (
	requestTimeout = flag.Duration("request-timeout", 0, "How long a connection is waited for")
	pokeTimeout    = flag.Duration("poke-timeout", 0, "How long it is tried again until it is as it should be")
	pokeInterval   = flag.Duration("poke-interval", 0, "How long after a try the next one begins")
)

// TestConformance runs what the flags select, and writes the report that implementations publish.
func TestConformance(t *testing.T) {
	options := suite.ConformanceProfileOptions{
		Options: suite.Options{
			Debug:                      *flags.ShowDebug,
			CleanupBaseResources:       *flags.CleanupBaseResources,
			SupportedFeatures:          suite.ParseSupportedFeatures(*flags.SupportedFeatures),
			ExemptFeatures:             suite.ParseSupportedFeatures(*flags.ExemptFeatures),
			EnableAllSupportedFeatures: *flags.EnableAllSupportedFeatures,
			TimeoutConfig: timeouts.TimeoutConfig{
				RequestTimeout: *requestTimeout,
				PokeTimeout:    *pokeTimeout,
				PokeInterval:   *pokeInterval,
			},
		},
		ConformanceProfiles: suite.ParseConformanceProfiles(*flags.ConformanceProfiles),
	}
	connect(t, &options)
	implementation, err := suite.ParseImplementation(*flags.ImplementationOrganization, *flags.ImplementationProject,
		*flags.ImplementationURL, *flags.ImplementationVersion, *flags.ImplementationContact,
		*flags.ImplementationAdditionalInformation)
	must(t, "say whose report it is", err)
	options.Implementation = *implementation
	all, err := suite.NewConformanceProfileTestSuite(options)
	must(t, "prepare the suite", err)
	all.Setup(t)
	all.Run(t, tests.ConformanceTests)
	report, err := all.Report()
	must(t, "report", err)
	text, err := yaml.Marshal(report)
	must(t, "write the report", err)
	must(t, "write the report", os.WriteFile(*flags.ReportOutput, text, 0o600))
}

func connect(t *testing.T, options *suite.ConformanceProfileOptions) {
	to, err := config.GetConfig()
	must(t, "find the API server", err)
	options.KubeConfig = *to
	options.Client, err = client.New(to, client.Options{})
	must(t, "make a client", err)
	options.ClientSet, err = kubernetes.NewForConfig(to)
	must(t, "make a client", err)
	must(t, "learn the kinds of the API", policy.Install(options.Client.Scheme()))
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
