#!/usr/bin/env bash
# status.sh JOB: running, success or failed.
set -uo pipefail
if ! said=$(timeout 10 scontrol --oneliner show job "$1" 2>&1); then
  # A controller that does not answer says nothing about the job; one that has forgotten it was asked too late.
  [[ $said == *"Invalid job id"* ]] && echo failed || echo running
  exit
fi
[[ $said =~ \ JobState=([A-Z_]+) ]]
case ${BASH_REMATCH[1]:-} in
  COMPLETED) echo success ;;
  PENDING | RUNNING | CONFIGURING | COMPLETING | SUSPENDED | STOPPED | RESIZING | SIGNALING | REQUEUED) echo running ;;
  *) echo failed ;;
esac
