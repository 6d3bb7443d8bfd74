"""What every part that serves sockets shares: who is let in, what is open, the way out.

aiohttp enters here; the parts themselves are in ``contrib``.
"""
