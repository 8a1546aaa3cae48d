"""A shared network's module, for tests that no other thread can disturb."""


def opened(network):
    with network.locked() as module:
        return module
