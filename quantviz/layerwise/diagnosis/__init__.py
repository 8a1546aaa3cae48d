"""Which tensor did it, why, and what to do: tensor by tensor, for our own simulation and for a pair of ONNX files."""
