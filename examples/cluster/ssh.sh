#!/bin/sh
# Two machines without a scheduler: run this on each, with its own number.
#
#   first machine:   ./ssh.sh 0 first.example.org
#   second machine:  ./ssh.sh 1 first.example.org
#
# Both need the same version of Striate and the same store of pictures (a copy each, or one that both see); only the first
# writes the run. Run the same lines with `resume RUN` in place of `train ...` to go on, on as many machines as there are then.
set -eu
machine=$1
first=$2

exec torchrun \
    --nnodes=2 --node-rank="$machine" --nproc-per-node="${PROCESSES:-1}" \
    --rdzv-backend=static --master-addr="$first" --master-port="${PORT:-29500}" \
    -m -- striate train "${RECIPE:-krizhevsky2009/unwhitened}" data.store="${STORE:-cifar-train}" --run "${RUN:-runs/shared}"
