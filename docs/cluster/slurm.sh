#!/bin/bash
# Run one study on one or more nodes of a SLURM cluster; requeue the job until the study is finished.
#
#   sbatch slurm.sh
#
# Edit the lines marked EDIT. STUDY, OUT and the environment must be on a file system that all nodes
# mount. SLURM sends SIGUSR1 before the time limit: the run ends cleanly and the job is requeued.

#SBATCH --job-name=partialnas
#SBATCH --nodes=2                  # EDIT: 1 is enough for one machine
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16         # EDIT: cores per node
#SBATCH --gpus-per-node=0          # EDIT: GPUs per node
#SBATCH --time=08:00:00            # EDIT
#SBATCH --signal=B:USR1@180        # sent to this script three minutes before the end
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=partialnas-%j.log

set -euo pipefail

STUDY=${STUDY:-$HOME/studies/study.yaml}         # EDIT
OUT=${OUT:-$HOME/results/study}                  # EDIT
VENV=${VENV:-$HOME/venv}                         # EDIT: where partialnas is installed
WORKERS=${WORKERS:-$((SLURM_CPUS_PER_TASK * SLURM_JOB_NUM_NODES))}  # EDIT: with GPUs, their total number

source "$VENV/bin/activate"

workers=()
address=()
driver=

end() {
    if ((${#workers[@]})); then
        kill "${workers[@]}" 2>/dev/null || true
        wait "${workers[@]}" 2>/dev/null || true
    fi
}
trap end EXIT
# A trap interrupts the shell's wait; the loop below waits for the driver again.
trap '[[ -n $driver ]] && kill -USR1 "$driver" 2>/dev/null' USR1
trap '[[ -n $driver ]] && kill -TERM "$driver" 2>/dev/null' TERM

if ((SLURM_JOB_NUM_NODES > 1)); then
    # A token that only this job knows keeps other users out of its Ray cluster.
    export RAY_AUTH_MODE=token
    RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
    export RAY_AUTH_TOKEN

    mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
    head=$(srun --nodes=1 --ntasks=1 -w "${nodes[0]}" hostname --ip-address | awk '{print $1}')
    port=$((20000 + SLURM_JOB_ID % 20000))
    ray_start=(ray start --block --num-cpus="$SLURM_CPUS_PER_TASK" --disable-usage-stats)

    srun --overlap --nodes=1 --ntasks=1 -w "${nodes[0]}" \
        "${ray_start[@]}" --head --node-ip-address="$head" --port="$port" \
        --include-dashboard=false &
    workers+=($!)
    for ((second = 0; second < 120; second++)); do
        if (: <"/dev/tcp/$head/$port") 2>/dev/null; then break; fi
        sleep 1
    done
    for node in "${nodes[@]:1}"; do
        srun --overlap --nodes=1 --ntasks=1 -w "$node" \
            "${ray_start[@]}" --address="$head:$port" &
        workers+=($!)
    done
    address=(--address "$head:$port" --set "executor.workers=$WORKERS")
fi

code=0
partialnas run "$STUDY" --out "$OUT" "${address[@]}" &
driver=$!
while true; do
    code=0
    wait "$driver" || code=$?
    kill -0 "$driver" 2>/dev/null || break
done

# 75: ended by SIGUSR1; 138: ended by SIGUSR1 before the run started.
if ((code == 75 || code == 138)); then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
