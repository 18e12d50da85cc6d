// Command helper is the one program of the cluster's own image. Without arguments it holds a pod's namespaces open and
// reaps orphans; with "-p PATH ... -a create|delete" it makes or removes the folder of a local-path volume.
package main

import (
	"flag"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	path := flag.String("p", "", "folder of the volume")
	flag.String("s", "", "size of the volume in bytes (not enforced)")
	flag.String("m", "", "volume mode")
	action := flag.String("a", "", "create or delete")
	flag.Parse()
	if *path == "" {
		pause()
	}
	if err := volume(*action, *path); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func volume(action, path string) error {
	if action == "delete" {
		return os.RemoveAll(path)
	}
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	return os.Chmod(path, 0o777)
}

func pause() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			os.Exit(0)
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}
