"""Single layers of a network: which of them move the maps, which bits keep them, what a protocol's switches do."""
