"""The tensor cache: records of arrays on disk, kept by diskcache without any pickle.

An entry is one file: magic, version, the sha256 of the payload, and the payload, which is a safetensors file whose
header holds the entry's key and its metadata as JSON. diskcache's table only says which file holds which key.
Nothing in the folder is trusted: what is not such a record under its own key is a miss. POSIX systems only.
``encode`` and ``decode`` are that format, for who hands a record from one process to another.
"""

from quantviz.store._folder import default_directory
from quantviz.store._record import Refused, decode, encode
from quantviz.store._tensors import StoreInfo, TensorStore, VerifyReport
from quantviz.store.space import SpaceTaken, space_taken

__all__ = [
    "Refused",
    "SpaceTaken",
    "StoreInfo",
    "TensorStore",
    "VerifyReport",
    "decode",
    "default_directory",
    "encode",
    "space_taken",
]
