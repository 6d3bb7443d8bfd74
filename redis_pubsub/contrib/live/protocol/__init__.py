"""The Centrifuge client protocol: commands, replies, pushes, and their two codecs.

Words only: nothing here waits, or knows a socket.
"""
