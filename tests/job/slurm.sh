#!/bin/bash
# A Slurm of one machine, this one, in a folder: tests/job/slurm.sh start|stop FOLDER, as root on Debian, after
# apt-get install slurm-wlm munge. Then: export SLURM_CONF=FOLDER/slurm.conf
set -e
folder=$(realpath -m "$2")
mkdir -p "$folder"
cd "$folder"
export SLURM_CONF=$folder/slurm.conf
if [ "$1" = stop ]; then
  for name in slurmd slurmctld munged; do kill "$(cat $name.pid)" || true; done
  exit
fi
mkdir -p state spool munge
chmod 700 munge # munged refuses a key that others may read
[ -f munge/key ] || head -c 1024 /dev/urandom > munge/key
chmod 400 munge/key
chmod 711 munge
cat > slurm.conf << END
ClusterName=here
SlurmctldHost=$(hostname)(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmctldPort=26817
SlurmdPort=26818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=4 RealMemory=2000 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=high Nodes=ALL State=UP PriorityTier=10 PreemptMode=OFF
END
munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munged.pid" \
  --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
slurmctld -f "$SLURM_CONF"
sleep 2
slurmd -f "$SLURM_CONF"
