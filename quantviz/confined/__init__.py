"""A process of its own for what strangers' bytes may make a library do: limited in memory, time and output.

A module that is run so calls ``serve`` with a function from its job to the result's bytes; whoever starts it makes a
``Child`` within ``private_folder`` and runs it. The process sees none of the starter's environment and ends with it.
"""

from quantviz.confined.folder import private_folder
from quantviz.confined.inside import RESULT, Tell, serve
from quantviz.confined.process import Allowance, Child, Sentences

__all__ = ["RESULT", "Allowance", "Child", "Sentences", "Tell", "private_folder", "serve"]
