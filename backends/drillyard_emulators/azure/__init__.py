"""Azure on loopback: sign-in, Resource Manager, one Azure ML workspace, its blob storage.

The blobs are Azurite, Microsoft's own emulator; the rest is written here. Not emulated: virtual
networks, key vaults, images and their builds (beyond how long they take, and that they fail).
"""
