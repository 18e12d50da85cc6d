module optimodel.dev/devcluster/helper

go 1.26.0
