"""Tests run on the CPU, the reference path, whose results are the same bytes everywhere; also in subprocesses."""

import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""
