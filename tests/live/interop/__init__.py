"""The live endpoint and the client libraries as they are published, over real sockets."""
