"""The live endpoint: clients subscribe, recover, call and publish, without server code."""
