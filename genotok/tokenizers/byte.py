"""One token a byte, as H-Net's own checkpoints have it."""

import numpy as np

from genotok.tokenizers.base import LetterTokenizer


class ByteTokenizer(LetterTokenizer):
    """The id is the byte (A = 65).

    H-Net keeps 254 and 255 for the beginning and the end of a document; sequences carry neither here, and a
    likelihood begins at the second byte.
    """

    def __init__(self) -> None:
        super().__init__("byte", np.arange(256, dtype=np.uint8), [chr(i) for i in range(256)], None)
        self.pad_id = 0

    def decode(self, ids) -> str:
        """The text whose UTF-8 bytes the ids are; bytes that are not UTF-8 become U+FFFD."""
        return self.checked_ids(ids).astype(np.uint8).tobytes().decode("utf-8", errors="replace")
