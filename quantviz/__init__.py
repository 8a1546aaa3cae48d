"""quantviz: when a network is quantized, does it still look at the same things?"""

__version__ = "0.2.0"
