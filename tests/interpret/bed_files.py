"""Chunks that are at hand, as BED."""

from genotok.interpret.token_files import write_token_files


def write_bed(found, path, track=None):
    write_token_files([found], {found.contig: found.end}, len(found.begins), bed=path, track=track)
