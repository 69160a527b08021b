// Command ocicni calls CNI as CRI-O does, by CRI-O's own library: "status"; "add", and the look after it by which CRI-O
// learns a pod's addresses; "del"; and "gc", which CRI-O does once at its start. Pods are a JSON list on standard input.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/cri-o/ocicni/pkg/ocicni"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if len(os.Args) != 5 {
		return fmt.Errorf("usage: %s status|add|del|gc CONFIGURATIONS BINARIES CACHE", os.Args[0])
	}
	verb, configurations, binaries, cache := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	plugin, err := ocicni.InitCNIWithCache("", configurations, cache, binaries)
	if err != nil {
		return err
	}
	defer plugin.Shutdown()
	if verb == "status" {
		return plugin.StatusWithContext(ctx)
	}
	var pods []*ocicni.PodNetwork
	if err := json.NewDecoder(os.Stdin).Decode(&pods); err != nil {
		return fmt.Errorf("read pods: %w", err)
	}
	if verb == "gc" {
		return plugin.GC(ctx, pods)
	}
	for _, pod := range pods {
		if err := one(ctx, plugin, verb, *pod); err != nil {
			return fmt.Errorf("%s %s: %w", verb, pod.Name, err)
		}
	}
	return nil
}

func one(ctx context.Context, plugin ocicni.CNIPlugin, verb string, pod ocicni.PodNetwork) error {
	switch verb {
	case "add":
		if _, err := plugin.SetUpPodWithContext(ctx, pod); err != nil {
			return err
		}
		results, err := plugin.GetPodNetworkStatusWithContext(ctx, pod)
		if err != nil {
			return err
		}
		for _, result := range results {
			if err := result.Result.PrintTo(os.Stdout); err != nil {
				return err
			}
		}
		return nil
	case "del":
		return plugin.TearDownPodWithContext(ctx, pod)
	default:
		return fmt.Errorf("unknown verb")
	}
}
