#!/bin/sh
# properties = {properties}
trap : TERM # at the end of its time a training run writes a checkpoint; this shell waits for it
{exec_job}
